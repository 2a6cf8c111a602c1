//! Clients that others wrote against the real binary, on one shard and on two.
//!
//! The cases are scripts of the clients' own languages beside this file; each prints a line per
//! case. `CULEX_TEST_ADDRESS=HOST:PORT` lets them loose on a broker that runs already, and
//! `CULEX_TEST_SKIP=NAME,…` leaves cases out, for brokers that are known not to have a feature.

mod broker;
mod drivers;
mod passwords;

use broker::Broker;
use drivers::Driver;

#[track_caller]
fn run(driver: Driver, shards: usize) {
    if let Ok(address) = std::env::var("CULEX_TEST_ADDRESS") {
        driver.run(&address);
        return;
    }
    let broker = Broker::start(shards);
    driver.run(broker.address());
    broker.stop();
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
