//! The random limits and weights of one run: each seed switches on some features, tightens some
//! limits and slows some things down.

use crate::rng::{Rng, Stream};
use culex::session::{Limits, Overflow};
use culex::shard::Settings;

#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    pub shards: usize,
    pub settings: Settings,
    pub clients: usize,
    pub hostile: usize,
    pub steps: usize,
    /// Letters that a mailbox holds.
    pub mailbox_room: usize,
    /// Weights of the kinds of event, see `world`.
    pub weights: Vec<usize>,
    /// A shard ends its turn after each input, in percent.
    pub short_turns: usize,
    /// Largest piece on the network.
    pub piece_bytes_max: usize,
    /// Largest payload.
    pub payload_bytes_max: usize,
    /// Percentages of what clients use.
    pub retain: usize,
    pub shared: usize,
    pub wills: usize,
    pub expiry: usize,
    pub wide_filters: bool,
    pub publish_weight: usize,
    pub subscribe_weight: usize,
    pub end_weight: usize,
    /// Highest Receive Maximum and Maximum Packet Size of clients (0: none is sent).
    pub receive_maximum: usize,
    pub packet_bytes: usize,
    pub aliases: usize,
    pub clean: usize,
    /// Clients delay their acknowledgements, in percent.
    pub slow_acks: usize,
}

impl Swarm {
    pub(crate) fn new(seed: u64) -> Swarm {
        let mut rng = Rng::new(seed, Stream::Swarm);
        let r = &mut rng;
        let payload_bytes_max = *r.pick(&[20, 20, 60, 400]);
        let mut later = Rng::new(seed, Stream::Later);
        let rejects = later.chance(30);
        Swarm {
            shards: *r.pick(&[1, 2, 2, 3, 3, 4]),
            settings: settings(r, rejects),
            clients: r.between(3, 9),
            hostile: *r.pick(&[0, 0, 1, 2, 3]),
            steps: r.between(1000, 9000),
            mailbox_room: *r.pick(&[1, 2, 8, 64, 1000]),
            weights: weights(r),
            short_turns: *r.pick(&[0, 30, 90, 100]),
            piece_bytes_max: *r.pick(&[1, 5, 40, 2000, 2000]),
            payload_bytes_max,
            retain: *r.pick(&[0, 20, 60]),
            shared: *r.pick(&[0, 0, 30, 70]),
            wills: *r.pick(&[0, 30, 80]),
            expiry: *r.pick(&[0, 0, 30]),
            wide_filters: r.chance(40),
            publish_weight: *r.pick(&[20, 60, 100]),
            subscribe_weight: *r.pick(&[4, 15, 30]),
            end_weight: *r.pick(&[0, 2, 8]),
            receive_maximum: *r.pick(&[0, 1, 2, 5, 100]),
            packet_bytes: *r.pick(&[0, 0, 0, 120]),
            aliases: *r.pick(&[0, 0, 1, 3]),
            clean: *r.pick(&[0, 10, 40]),
            slow_acks: *r.pick(&[0, 30, 80]),
        }
    }
}

fn settings(r: &mut Rng, rejects: bool) -> Settings {
    Settings {
        hash_key: (r.next(), r.next()),
        id_seed: r.next(),
        packet_bytes_max: *r.pick(&[1 << 20, 4096, 1024]),
        queue: Limits {
            queue_messages_max: *r.pick(&[1, 2, 5, 20, 1000, 1000]),
            queue_bytes_max: *r.pick(&[1024, 4096, 1 << 20, 1 << 20]),
            queue_qos0: r.chance(30),
            overflow: if rejects { Overflow::Reject } else { Overflow::DropNewest },
        },
        inflight_max: *r.pick(&[1, 2, 5, 100]),
        receive_maximum: *r.pick(&[1, 2, 5, 100]),
        topic_alias_maximum: *r.pick(&[0, 1, 3, 32]),
        topic_alias_out_maximum: *r.pick(&[0, 1, 3, 32]),
        subscriptions_per_session_max: *r.pick(&[2, 5, 1000, 1000]),
        session_expiry_s_max: *r.pick(&[5, 60, u32::MAX, u32::MAX]),
        retained_messages_max: *r.pick(&[1, 3, 1000, 1000]),
        output_bytes_max: *r.pick(&[256, 1024, 1 << 20, 1 << 20]),
        sys_interval_s: 0,
        recording: r.chance(60),
        ..Settings::default()
    }
}

/// Order as in `world::Event`.
fn weights(r: &mut Rng) -> Vec<usize> {
    let speeds = [3, 10, 30];
    let mut weights: Vec<usize> = (0..9).map(|_| *r.pick(&speeds)).collect();
    weights.push(*r.pick(&[0, 1, 4]));
    weights.push(*r.pick(&[3, 10]));
    weights.push(*r.pick(&[0, 0, 1]));
    weights
}
