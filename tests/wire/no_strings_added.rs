//! Culex adds neither reason strings nor user properties to any packet, so none can be too many.

use crate::harness::{V5, check, check_with};

#[test]
fn answers_carry_no_strings() {
    // [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3]
    // [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2]
    check(
        V5,
        "
        a connects rpi=1
        a > publish ~/t q1 id=1 up=a:b
        a < puback 1 0x10 !rs !up
        a > publish $SYS/x q1 id=2 up=a:b
        a < puback 2 0x87 !rs !up
        a > publish ~/t q2 id=3 up=a:b
        a < pubrec 3 0x10 !rs !up
        a > publish $SYS/x q2 id=4 up=a:b
        a < pubrec 4 0x87 !rs !up
        a > pubrel 3 0 up=a:b
        a < pubcomp 3 0 !rs !up
        a > pubrel 9 0 up=a:b
        a < pubcomp 9 0x92 !rs !up
        a > pubrec 9 0 up=a:b
        a < pubrel 9 0x92 !rs !up
        a > subscribe 5 ~/s q2 ~/a# up=a:b
        a < suback 5 0x02 0x8f !rs !up
        a publishes ~/s q2 p=1
        a < publish ~/s q2 p=1 id=$1
        a > pubrec $1 0 up=a:b
        a < pubrel $1 0 !rs !up
        a > pubcomp $1
        a > unsubscribe 6 ~/s ~/none up=a:b
        a < unsuback 6 0 0x11 !rs !up
    ",
    );
}

#[test]
fn connack_carries_no_strings() {
    // [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-4.12.0-6]
    check(
        V5,
        "
        a connects rpi=1 up=a:b -> !rs !up !method !data
        b > connect rpi=1 will=$SYS/x wp=x
        b < connack 0x87 !rs !up
        b < closed
        c > connect method=x
        c < connack 0x8c !rs !up
        c < closed
    ",
    );
}

#[test]
fn disconnect_carries_no_strings_and_no_expiry() {
    // [MQTT-3.14.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
    check_with(
        "[limits]\npacket_bytes_max = 2000\n",
        V5,
        "
        a connects rpi=1 expiry=60
        a > publish ~/t p=*3000
        a < disconnect 0x95 !rs !up !expiry
        a < closed
        b connects rpi=1 expiry=60
        b > publish ~/t alias=0
        b < disconnect 0x94 !rs !up !expiry
        b < closed
        c connects id=same rpi=1 expiry=60
        d connects id=same rpi=1 expiry=60
        c < disconnect 0x8e !rs !up !expiry
        c < closed
    ",
    );
}
