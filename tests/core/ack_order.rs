//! Acknowledgements leave in the order of their messages.

use crate::rig::Rig;

#[test]
fn an_answer_that_waits_for_another_shard_holds_back_the_next() {
    // [MQTT-4.6.0-2 of 3.1.1] [MQTT-4.6.0-3 of 3.1.1]
    for (qos, answer) in [("q1", "puback"), ("q2", "pubrec")] {
        let mut rig = Rig::new(2);
        let (publisher, subscriber) = (rig.name_on("p", 0), rig.name_on("s", 1));
        rig.quiet(&format!(
            "connect {publisher} v311
             connect {subscriber} v311
             {subscriber} subscribe far"
        ));
        rig.hold_mail = true;
        let early = rig.run(&format!(
            "{publisher} publish far x {qos} id=1
             {publisher} publish nobody x {qos} id=2"
        ));
        assert_eq!(early, "", "{qos}: nothing is settled yet");
        rig.hold_mail = false;
        let late = rig.run(&format!("{publisher} ping"));
        let own = format!("{publisher}: {answer}");
        let answers: Vec<&str> = late.lines().filter_map(|line| line.strip_prefix(&own)).collect();
        assert_eq!(answers, [" 1", " 2"], "{late}");
    }
}
