//! Between CONNECT and CONNACK: who is asked, what an answer does, and what comes in between.

use crate::rig::{Rig, check_on};
use culex::auth::limiter::Limits;
use culex::shard::{ListenerRules, LoginRules};
use std::sync::Arc;

/// A broker that asks: listener 0 knows only users, listener 1 lets anonymous clients in, listener
/// 2 makes the user name the client identifier.
fn asking() -> Rig {
    asking_with(|_| {})
}

fn asking_with(adjust: impl Fn(&mut LoginRules)) -> Rig {
    let mut rig = Rig::new(1);
    rig.asking = true;
    let mut rules = LoginRules {
        asked: true,
        listeners: vec![
            ListenerRules::default(),
            ListenerRules { allow_anonymous: true, ..ListenerRules::default() },
            ListenerRules { use_username_as_clientid: true, ..ListenerRules::default() },
        ],
        failures: Limits { failures_max: 3, forget_ms: 1000 },
        failures_exempt: Arc::default(),
    };
    adjust(&mut rules);
    rig.shards.iter_mut().for_each(|shard| shard.set_login_rules(rules.clone()));
    rig
}

#[test]
fn nothing_is_sent_before_the_answer() {
    check_on(
        &mut asking(),
        "connect a v5 user=ada pass=x
         a granted ada
         connect b v311 user=bob pass=y
         b denied guess
         connect c v5 user=eve pass=y
         c denied guess",
        "a: asks as ada
         a: connack
         b: asks as bob
         b: connack 0x86
         b: closed
         c: asks as eve
         c: connack 0x86
         c: closed",
    );
}

#[test]
fn anonymous_clients_come_in_where_they_may() {
    check_on(
        &mut asking(),
        "connect a v5
         connect b v311 listener=0
         connect c v5 listener=1
         connect d v5 listener=9
         connect e v5 listener=1 user=ada pass=x",
        "a: connack 0x87
         a: closed
         b: connack 0x87
         b: closed
         c: connack
         d: connack 0x88
         d: closed
         e: asks as ada",
    );
}

#[test]
fn a_password_alone_and_a_user_alone_are_asked_about() {
    check_on(
        &mut asking(),
        "connect a v5 pass=token
         connect b v5 listener=1 user=ada
         connect c v5 listener=1 user= pass=x
         c drop",
        "a: asks as -
         b: asks as ada
         c: asks as",
    );
}

#[test]
fn nobody_is_asked_where_nothing_can_check() {
    check_on(
        &mut Rig::new(1),
        "connect a v5 user=ada pass=x
         connect b v5 method=SCRAM-SHA-256 data=x",
        "a: connack
         b: connack 0x8c
         b: closed",
    );
}

#[test]
fn a_certificate_needs_no_password() {
    check_on(&mut asking(), "connect a v5 cert=ada user=eve pass=wrong", "a: connack");
}

#[test]
fn an_answer_to_a_connection_that_is_gone_does_nothing() {
    let mut rig = asking();
    check_on(
        &mut rig,
        "connect a v5 user=ada pass=x keep expiry=100
         a drop
         a granted ada
         connect a v5 user=ada pass=x keep expiry=100
         a granted ada",
        "a: asks as ada
         a: asks as ada
         a: connack",
    );
}

#[test]
fn a_login_that_nobody_checks_ends_with_the_deadline() {
    check_on(
        &mut asking(),
        "connect a v5 user=ada pass=x
         wait 9000
         connect b v311 user=ada pass=x
         wait 1500
         a granted ada",
        "a: asks as ada
         b: asks as ada
         a: connack 0x89
         a: closed",
    );
}

/// [MQTT-3.1.4-3] The client that asked later is the one that stays.
#[test]
fn answers_out_of_order_do_not_undo_a_take_over() {
    check_on(
        &mut asking(),
        "connect a v5 id=x user=ada pass=1
         connect b v5 id=x user=ada pass=1
         b granted ada
         a granted ada
         b ping
         connect c v5 id=x user=ada pass=1
         c granted ada",
        "a: asks as ada
         b: asks as ada
         b: connack
         a: connack 0x89
         a: closed
         b: pingresp
         c: asks as ada
         b: disconnect 0x8e
         c: connack
         b: closed",
    );
}

#[test]
fn the_session_belongs_to_who_made_it() {
    check_on(
        &mut asking(),
        "connect a v5 id=x user=ada pass=1 keep expiry=100
         a granted ada
         a subscribe t q1
         connect b v5 id=x user=bob pass=1
         b granted bob
         connect c v311 id=x user=bob pass=1 keep
         c granted bob
         connect d v5 id=x listener=1
         a ping
         a bye
         connect e v5 id=x user=bob pass=1
         e granted bob
         connect f v5 id=x user=ada pass=1 keep
         f granted ada",
        "a: asks as ada
         a: connack
         a: suback 0x01
         b: asks as bob
         b: connack 0x87
         b: closed
         c: asks as bob
         c: connack 0x87
         c: closed
         d: connack 0x87
         d: closed
         a: pingresp
         a: closed
         e: asks as bob
         e: connack 0x87
         e: closed
         f: asks as ada
         f: connack present",
    );
}

#[test]
fn a_session_may_change_hands_if_the_settings_say_so() {
    check_on(
        &mut asking_with(|rules| rules.listeners[0].allow_session_rebind = true),
        "connect a v5 id=x user=ada pass=1 keep expiry=100
         a granted ada
         connect b v5 id=x user=bob pass=1 keep expiry=100
         b granted bob",
        "a: asks as ada
         a: connack
         b: asks as bob
         a: disconnect 0x8e
         b: connack present
         a: closed",
    );
}

#[test]
fn the_user_name_can_be_the_client_identifier() {
    check_on(
        &mut asking(),
        "connect a v5 id=x listener=2 user=ada pass=1
         a granted ada
         connect b v5 id=- listener=2 user=ada pass=1
         b granted ada
         connect c v5 id=x listener=2 cert=ada",
        "a: asks as ada
         a: connack
         b: asks as ada
         a: disconnect 0x8e
         b: connack assigned
         a: closed
         b: disconnect 0x8e
         c: connack
         b: closed",
    );
}

#[test]
fn who_failed_too_often_is_not_asked_about() {
    let mut rig = asking();
    check_on(
        &mut rig,
        "connect a v5 user=ada pass=1
         a denied guess
         connect b v5 user=ada pass=2
         b drop
         b denied guess
         connect c v5 user=ada pass=3
         c denied guess
         connect d v5 user=ada pass=4
         connect e v311 user=ada pass=4
         connect f v5 user=ada pass=right from=10.0.0.2
         connect g v5 user=bob pass=right
         wait 1000
         connect h v5 user=ada pass=right
         h granted ada",
        "a: asks as ada
         a: connack 0x86
         a: closed
         b: asks as ada
         c: asks as ada
         c: connack 0x86
         c: closed
         d: connack 0x9f
         d: closed
         e: connack 0x88
         e: closed
         f: asks as ada
         g: asks as bob
         h: asks as ada
         h: connack",
    );
    let refused = rig.counters().logins_refused;
    assert_eq!((refused[0], refused[3]), (2, 2), "one of the three guesses has hung up");
}

#[test]
fn a_busy_broker_is_no_guess() {
    check_on(
        &mut asking(),
        &"connect a v5 user=ada pass=1
          a denied busy
          a drop
        "
        .repeat(5),
        &"a: asks as ada
          a: connack 0x89
          a: closed
        "
        .repeat(5),
    );
}

#[test]
fn a_user_whom_many_addresses_guess_at_waits() {
    let mut rig = asking();
    for host in 0..40 {
        rig.quiet(&format!("connect a v5 user=ada pass=1 from=10.1.0.{host}"));
        rig.quiet("wait 1");
        rig.quiet(if host < 30 { "a denied guess" } else { "a drop" });
    }
    check_on(
        &mut rig,
        "connect b v5 user=ada pass=1 from=10.2.0.1
         wait 200
         wait 100
         b granted ada",
        "b: asks as ada
         b: connack",
    );
}

#[test]
fn a_login_ends_when_its_proof_does() {
    check_on(
        &mut asking(),
        "connect a v5 user=ada pass=token
         a granted ada ends=5000
         connect b v311 user=ada pass=token
         b granted ada ends=6000
         wait 4900
         a ping
         wait 100
         wait 1100",
        "a: asks as ada
         a: connack
         b: asks as ada
         b: connack
         a: pingresp
         a: disconnect 0xa0
         a: closed
         b: closed",
    );
}

#[test]
fn a_stopping_broker_asks_nobody() {
    check_on(
        &mut asking(),
        "stop
         connect a v5 user=ada pass=1",
        "a: connack 0x88
         a: closed",
    );
}

#[test]
fn nobody_comes_in_by_a_listener_that_was_closed() {
    let closed = |rules: &mut LoginRules| {
        for listener in &mut rules.listeners {
            listener.closed = true;
            listener.allow_anonymous = true;
        }
    };
    let refused = "a: connack 0x88
         a: closed";
    for asked in [true, false] {
        let mut rig = asking_with(|rules| {
            closed(rules);
            rules.asked = asked;
        });
        check_on(&mut rig, "connect a v5", refused);
        check_on(&mut rig, "connect a v5 user=ada pass=x", refused);
    }
}
