//! Clients that others wrote against the real binary, on one shard and on two.
//!
//! The cases are scripts of the clients' own languages beside this file; each prints a line per
//! case. `CULEX_TEST_ADDRESS=HOST:PORT` lets them loose on a broker that runs already, and
//! `CULEX_TEST_SKIP=NAME,…` leaves cases out, for brokers that are known not to have a feature.

mod broker;
mod certificates;
mod drivers;
mod passwords;

use broker::Broker;
use certificates::{Certificates, MUTUAL_TLS, OTHER_PAGES, TLS, WEBSOCKET, WEBSOCKET_TLS};
use drivers::Driver;

#[track_caller]
fn run(driver: Driver, shards: usize) {
    if let Ok(address) = std::env::var("CULEX_TEST_ADDRESS") {
        driver.run(&address, &[]);
        return;
    }
    let broker = Broker::start(shards);
    driver.run(broker.address(0), &[]);
    broker.stop();
}

/// Runs all cases inside another transport, on two shards; `body` gets the broker and its files.
fn with_transports(body: impl FnOnce(&Broker, &Certificates)) {
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return println!("needs a broker of its own: not run");
    }
    let certificates = Certificates::new();
    let broker = Broker::start_with(2, &certificates.config());
    body(&broker, &certificates);
    broker.stop();
}

#[test]
fn paho_over_tls() {
    with_transports(|broker, certificates| {
        let address = format!("mqtts://{}", broker.address(TLS));
        Driver::Paho.run(&address, &certificates.trusted());
    });
}

#[test]
fn paho_over_websocket() {
    with_transports(|broker, _| {
        Driver::Paho.run(&format!("ws://{}", broker.address(WEBSOCKET)), &[]);
    });
}

#[test]
fn paho_over_websocket_in_tls() {
    with_transports(|broker, certificates| {
        let address = format!("wss://{}", broker.address(WEBSOCKET_TLS));
        Driver::Paho.run(&address, &certificates.trusted());
    });
}

#[test]
fn mqttjs_over_tls_with_a_certificate() {
    with_transports(|broker, certificates| {
        let address = format!("mqtts://{}", broker.address(MUTUAL_TLS));
        Driver::Mqttjs.run(&address, &certificates.trusted_and_own());
    });
}

#[test]
fn mqttjs_over_websocket() {
    with_transports(|broker, _| {
        Driver::Mqttjs.run(&format!("ws://{}", broker.address(WEBSOCKET)), &[]);
    });
}

#[test]
fn mqttjs_over_websocket_in_tls() {
    with_transports(|broker, certificates| {
        let address = format!("wss://{}", broker.address(WEBSOCKET_TLS));
        Driver::Mqttjs.run(&address, &certificates.trusted());
    });
}

#[test]
fn mosquitto_clients_over_tls() {
    with_transports(|broker, certificates| {
        let address = format!("mqtts://{}", broker.address(TLS));
        Driver::Mosquitto.run(&address, &certificates.trusted());
    });
}

#[test]
fn mosquitto_clients_over_tls_with_a_certificate() {
    with_transports(|broker, certificates| {
        let address = format!("mqtts://{}", broker.address(MUTUAL_TLS));
        Driver::Mosquitto.run(&address, &certificates.trusted_and_own());
    });
}

#[test]
fn mqttjs_in_a_browser() {
    with_transports(|broker, _| {
        let addresses = format!(
            "ws://{}/mqtt,wss://{}/mqtt,ws://{}/mqtt,mqtt://{}",
            broker.address(WEBSOCKET),
            broker.address(WEBSOCKET_TLS),
            broker.address(OTHER_PAGES),
            broker.address(0)
        );
        Driver::Browser.run(&addresses, &[]);
    });
}

#[test]
fn paho_on_one_shard() {
    run(Driver::Paho, 1);
}

#[test]
fn paho_on_two_shards() {
    run(Driver::Paho, 2);
}

#[test]
fn mqttjs_on_one_shard() {
    run(Driver::Mqttjs, 1);
}

#[test]
fn mqttjs_on_two_shards() {
    run(Driver::Mqttjs, 2);
}

#[test]
fn mosquitto_clients_on_one_shard() {
    run(Driver::Mosquitto, 1);
}

#[test]
fn mosquitto_clients_on_two_shards() {
    run(Driver::Mosquitto, 2);
}
