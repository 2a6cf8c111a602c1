//! Enhanced authentication (MQTT 5.0 §4.12) with SCRAM-SHA-256.

use crate::rig::{Rig, check_on};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use culex::auth::scram::{ITERATIONS, NONCE_BYTES, SALT_BYTES};
use culex::shard::{ListenerRules, LoginRules};
use ring::{digest, hmac, pbkdf2};

fn asking() -> Rig {
    let mut rig = Rig::new(1);
    rig.asking = true;
    let listeners = vec![ListenerRules::default(); 3];
    let rules = LoginRules { asked: true, listeners, ..LoginRules::default() };
    rig.shards[0].set_login_rules(rules);
    rig
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// The server's first message to `n,,n=ada,r=abc`, the client's proof of `password`, and what the
/// server answers.
fn dialogue(password: &str) -> (String, String, String) {
    let nonce = format!("abc{}", STANDARD.encode([0; NONCE_BYTES]));
    let salt = [1; SALT_BYTES];
    let first = format!("r={nonce},s={},i={ITERATIONS}", STANDARD.encode(salt));
    let mut salted = [0; 32];
    let hash = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(hash, ITERATIONS, &salt, password.as_bytes(), &mut salted);
    let client_key = mac(&salted, "Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let without_proof = format!("c=biws,r={nonce}");
    let signed = format!("n=ada,r=abc,{first},{without_proof}");
    let signature = mac(stored_key.as_ref(), &signed);
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    let verifier = STANDARD.encode(mac(&mac(&salted, "Server Key"), &signed));
    (first, format!("{without_proof},p={}", STANDARD.encode(proof)), format!("v={verifier}"))
}

const M: &str = "SCRAM-SHA-256";

/// [MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-5]
#[test]
fn challenge_and_proof_lead_to_connack() {
    let (first, last, _) = dialogue("pencil");
    check_on(
        &mut asking(),
        &format!(
            "connect a v5 method={M} data=n,,n=ada,r=abc
             a checked
             a auth 0x18 method={M} data={last}
             a checked
             a ping"
        ),
        &format!(
            "a: asks as -
             a: auth 0x18 {M} {first}
             a: asks as -
             a: connack {M}
             a: pingresp"
        ),
    );
}

/// [MQTT-4.12.0-4]
#[test]
fn a_wrong_proof_is_refused() {
    let (first, last, _) = dialogue("pen");
    check_on(
        &mut asking(),
        &format!(
            "connect a v5 method={M} data=n,,n=ada,r=abc
             a checked
             a auth 0x18 method={M} data={last}
             a checked"
        ),
        &format!(
            "a: asks as -
             a: auth 0x18 {M} {first}
             a: asks as -
             a: connack 0x86
             a: closed"
        ),
    );
}

#[test]
fn another_user_name_in_connect_is_refused() {
    let (first, last, _) = dialogue("pencil");
    for (user, end) in [("bob", "a: connack 0x86\na: closed"), ("ada", "a: connack SCRAM-SHA-256")]
    {
        check_on(
            &mut asking(),
            &format!(
                "connect a v5 user={user} method={M} data=n,,n=ada,r=abc
                 a checked
                 a auth 0x18 method={M} data={last}
                 a checked"
            ),
            &format!(
                "a: asks as {user}
                 a: auth 0x18 {M} {first}
                 a: asks as {user}
                 {end}"
            ),
        );
    }
}

/// [MQTT-3.1.2-30]
#[test]
fn only_auth_and_disconnect_may_come_before_connack() {
    for (early, end) in [
        ("ping", ""),
        ("publish t x", ""),
        ("auth 0x19 method=SCRAM-SHA-256", ""),
        ("auth 0x00", ""),
        ("auth 0x18 method=PLAIN", "a: connack 0x8c\n"),
        ("bye", ""),
    ] {
        let (first, ..) = dialogue("");
        check_on(
            &mut asking(),
            &format!("connect a v5 method={M} data=n,,n=ada,r=abc\na checked\na {early}"),
            &format!("a: asks as -\na: auth 0x18 {M} {first}\n{end}a: closed"),
        );
    }
}

#[test]
fn auth_while_the_server_checks_is_a_protocol_error() {
    check_on(
        &mut asking(),
        &format!(
            "connect a v5 method={M} data=n,,n=ada,r=abc
             a auth 0x18 method={M} data=x"
        ),
        "a: asks as -
         a: closed",
    );
}

#[test]
fn no_auth_in_time_ends_the_connection() {
    let (first, ..) = dialogue("");
    check_on(
        &mut asking(),
        &format!("connect a v5 method={M} data=n,,n=ada,r=abc\na checked\nwait 10100"),
        &format!("a: asks as -\na: auth 0x18 {M} {first}\na: connack 0x87\na: closed"),
    );
}

fn connected() -> (Rig, String, String, String) {
    let (first, last, verifier) = dialogue("pencil");
    let mut rig = asking();
    rig.quiet(&format!(
        "connect a v5 method={M} data=n,,n=ada,r=abc
         a checked
         a auth 0x18 method={M} data={last}
         a checked"
    ));
    (rig, first, last, verifier)
}

/// [MQTT-4.12.1-1]
#[test]
fn a_client_proves_itself_again_without_a_break() {
    let (mut rig, first, last, verifier) = connected();
    check_on(
        &mut rig,
        &format!(
            "a auth 0x19 method={M} data=n,,n=ada,r=abc
             a subscribe t
             a checked
             a ping
             a auth 0x18 method={M} data={last}
             a publish t x
             a checked
             a ping"
        ),
        &format!(
            "a: asks as -
             a: suback 0x00
             a: auth 0x18 {M} {first}
             a: pingresp
             a: asks as -
             a: publish t x
             a: auth 0x00 {M} {verifier}
             a: pingresp"
        ),
    );
}

/// [MQTT-4.12.1-2]
#[test]
fn who_fails_to_prove_itself_again_is_disconnected() {
    let (mut rig, first, ..) = connected();
    let wrong = dialogue("pen").1;
    check_on(
        &mut rig,
        &format!(
            "a auth 0x19 method={M} data=n,,n=ada,r=abc
             a checked
             a auth 0x18 method={M} data={wrong}
             a checked"
        ),
        &format!(
            "a: asks as -
             a: auth 0x18 {M} {first}
             a: asks as -
             a: disconnect 0x87
             a: closed"
        ),
    );
}

#[test]
fn the_identity_of_a_connection_never_changes() {
    let (mut rig, first, last, _) = connected();
    check_on(
        &mut rig,
        &format!(
            "a auth 0x19 method={M} data=n,,n=ada,r=abc
             a checked
             a auth 0x18 method={M} data={last}
             a granted eve"
        ),
        &format!(
            "a: asks as -
             a: auth 0x18 {M} {first}
             a: asks as -
             a: disconnect 0x87
             a: closed"
        ),
    );
}

/// [MQTT-4.12.0-5] [MQTT-4.12.0-7]
#[test]
fn wrong_turns_after_connack_end_the_connection() {
    for (wrong, code) in [
        ("auth 0x19 method=PLAIN data=x", "0x8c"),
        ("auth 0x18 method=SCRAM-SHA-256 data=x", "0x82"),
        ("auth 0x00 method=SCRAM-SHA-256 data=x", "0x82"),
        ("auth 0x00", "0x82"),
    ] {
        let (mut rig, ..) = connected();
        check_on(&mut rig, &format!("a {wrong}"), &format!("a: disconnect {code}\na: closed"));
    }
    let (mut rig, ..) = connected();
    check_on(
        &mut rig,
        &format!("a auth 0x19 method={M} data=n,,n=ada,r=abc\na auth 0x19 method={M} data=x"),
        "a: asks as -\na: disconnect 0x82\na: closed",
    );
}

/// [MQTT-4.12.0-6] [MQTT-4.12.0-7]
#[test]
fn who_named_no_method_gets_and_sends_no_auth() {
    let mut rig = asking();
    check_on(
        &mut rig,
        &format!(
            "connect a v5 user=ada pass=x
             a granted ada
             a auth 0x19 method={M} data=x"
        ),
        "a: asks as ada
         a: connack
         a: disconnect 0x82
         a: closed",
    );
}
