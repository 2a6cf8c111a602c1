//! What befalls a connection: it is opened, bytes arrive in pieces both ways, it moves to its home,
//! it ends on one side and then on the other.

use super::{World, show};
use crate::client::Manner;
use crate::shadow::{Link, MsgId, Shadow, message_id};
use crate::wire::{Conn, Stage};
use culex::codec::{self, Packet, Version};
use culex::shard::{Input, Peer};
use shards::ConnId;

/// Patience between accept and CONNECT.
const CONNECT_TIMEOUT_MS: u64 = 10_000;

impl World {
    /// A client opens a connection and sends CONNECT.
    pub(crate) fn open(&mut self, client: usize, clean: bool, will: Option<(MsgId, u32)>) {
        let at = self.conns.len();
        let shard = self.schedule.below(self.shards.len());
        let id = self.place(shard, at);
        let version = self.clients[client].version;
        self.conns.push(Conn::new(id, shard, client, version));
        let manner = self.clients[client].manner;
        let hostile = manner != Manner::Correct;
        let guesses = matches!(manner, Manner::WrongIds | Manner::Garbage | Manner::Violates);
        self.shadow.links.push(Link { hostile, guesses, ..Link::default() });
        let will = will.map(|(id, delay_s)| (&self.shadow.messages[id], delay_s));
        let bytes = self.clients[client].connect(at, clean, will);
        self.note(|| format!("{} opens, clean {clean}, will {will:?}", self.name(at)));
        self.conns[at].up.extend(bytes);
        self.opened(at);
    }

    fn opened(&mut self, at: usize) {
        let (shard, conn) = (self.conns[at].shard, self.conns[at].id);
        let deadline = self.now.after(CONNECT_TIMEOUT_MS);
        self.shards[shard].handle(Input::Opened { conn, deadline }, self.now);
    }

    /// A free place in the connection table of a shard; indexes are used again.
    fn place(&mut self, shard: usize, at: usize) -> ConnId {
        self.generation += 1;
        let places = &mut self.places[shard];
        let index = places.iter().position(Option::is_none).unwrap_or_else(|| {
            places.push(None);
            places.len() - 1
        });
        places[index] = Some(at);
        ConnId::new(u32::try_from(index).unwrap(), self.generation)
    }

    /// A piece of what the client has sent arrives.
    pub(crate) fn up(&mut self, at: usize, bytes_max: usize) -> bool {
        let shard = self.conns[at].shard;
        let home = match (self.conns[at].stage, self.clients[self.conns[at].client].id.as_str()) {
            (Stage::Connecting, id) if !id.is_empty() => self.shards[0].home_of(id),
            _ => shard,
        };
        // A shard serves as soon as it has come back, whether others have or not.
        if !(self.ready[shard] && self.ready[home]) {
            return false;
        }
        let conn = &mut self.conns[at];
        if conn.up.is_empty() || !conn.is_open() || conn.paused || self.is_blocked(shard) {
            return false;
        }
        let conn = &mut self.conns[at];
        let count = conn.up.len().min(bytes_max);
        let piece: Vec<u8> = conn.up.drain(..count).collect();
        conn.arrived_bytes += count;
        conn.partial.extend(piece);
        self.decode(at);
        let shard = self.conns[at].shard;
        self.after_input(shard);
        true
    }

    /// Hands every complete packet to the shard, as `culex::edge` does.
    fn decode(&mut self, at: usize) {
        let bytes = std::mem::take(&mut self.conns[at].partial);
        let max = self.swarm.settings.packet_bytes_max;
        let mut done = 0;
        while self.conns[at].is_open() && self.shadow.failure.is_none() {
            let connecting = self.conns[at].stage == Stage::Connecting;
            let version = if connecting { Version::V311 } else { self.conns[at].version };
            match codec::decode(&bytes[done..], version, max) {
                Ok(None) => {
                    self.conns[at].partial = bytes[done..].to_vec();
                    return;
                }
                Ok(Some((packet, used))) => {
                    self.packet(at, packet);
                    done += used;
                }
                Err(error) => {
                    self.note(|| format!("{} => {error}", self.name(at)));
                    self.conns[at].stage = Stage::Closing;
                    let conn = self.conns[at].id;
                    self.input(at, Input::Malformed { conn, error }, None, |_, _, _| {});
                }
            }
        }
    }

    fn packet(&mut self, at: usize, packet: Packet<'_>) {
        self.note(|| format!("{} => {}", self.name(at), show(&packet)));
        let connecting = self.conns[at].stage == Stage::Connecting;
        match packet {
            Packet::Connect(connect) if connecting => {
                let home = match connect.client_id {
                    "" => self.conns[at].shard,
                    id => self.shards[0].home_of(id),
                };
                self.hand_over(at, home);
                let conn = self.conns[at].id;
                self.conns[at].stage = Stage::Live;
                self.conns[at].version = connect.version;
                let facts = connect.clone();
                let peer = Peer::default();
                let input = Input::Connect { conn, peer: &peer, connect };
                self.input(at, input, None, |shadow, refused, _| {
                    if !refused {
                        shadow.connected(at, &facts, home);
                    }
                });
            }
            packet => {
                if connecting {
                    self.conns[at].stage = Stage::Closing;
                }
                let conn = self.conns[at].id;
                let facts = packet.clone();
                let carried = match &packet {
                    Packet::Publish(publish) => message_id(publish.payload),
                    _ => None,
                };
                self.input(at, Input::Packet { conn, packet }, carried, |shadow, closed, lsn| {
                    shadow.handled(at, &facts, closed, lsn);
                });
                self.planted.after_packet(
                    &facts,
                    self.conns[at].shard,
                    &self.shadow,
                    &mut self.mailboxes,
                );
            }
        }
    }

    /// Moves a connection to the home of its client.
    fn hand_over(&mut self, at: usize, home: usize) {
        let (shard, conn) = (self.conns[at].shard, self.conns[at].id);
        if shard != home {
            self.shards[shard].handle(Input::Closed { conn }, self.now);
            self.places[shard][conn.index()] = None;
            self.conns[at].id = self.place(home, at);
            self.conns[at].shard = home;
            self.opened(at);
        }
    }

    fn input(
        &mut self,
        at: usize,
        input: Input<'_>,
        carried: Option<MsgId>,
        tell: impl FnOnce(&mut Shadow, bool, u64),
    ) {
        let shard = self.conns[at].shard;
        self.next_step();
        self.shards[shard].handle(input, self.now);
        let outcome = self.collect(shard);
        tell(&mut self.shadow, outcome.closed.contains(&at), outcome.lsn);
        if let Some(session) = self.shadow.links[at].session {
            for number in &outcome.heads {
                self.numbers.entry((shard, *number)).or_insert(session);
            }
        }
        self.conclude(shard, carried, &outcome);
    }

    /// A piece of what the broker has sent arrives.
    pub(crate) fn down(&mut self, at: usize, bytes_max: usize) -> bool {
        let conn = &mut self.conns[at];
        let client = conn.client;
        if conn.down.is_empty() || self.clients[client].manner == Manner::NeverReads {
            return false;
        }
        let count = conn.down.len().min(bytes_max);
        let piece: Vec<u8> = conn.down.drain(..count).collect();
        conn.client_partial.extend(piece);
        if self.clients[client].conn != Some(at) {
            conn.client_partial.clear();
            return true;
        }
        let bytes = std::mem::take(&mut conn.client_partial);
        let version = self.clients[client].version;
        let mut done = 0;
        while let Some((packet, used)) =
            codec::decode(&bytes[done..], version, 1 << 28).expect("it was whole when it left")
        {
            done += used;
            let answer = self.clients[client].take(&packet, at, &mut self.shadow);
            self.conns[at].up.extend(answer);
        }
        self.conns[at].client_partial = bytes[done..].to_vec();
        true
    }

    /// All output that was taken has left.
    pub(crate) fn drained(&mut self, at: usize) -> bool {
        let conn = &mut self.conns[at];
        if !conn.sending || !conn.down.is_empty() || !conn.client_open || conn.stage == Stage::Gone
        {
            return false;
        }
        conn.sending = false;
        let id = conn.id;
        self.input(at, Input::Drained { conn: id }, None, |_, _, _| {});
        if self.conns[at].stage == Stage::Closing && !self.conns[at].sending {
            self.send(at);
        }
        let shard = self.conns[at].shard;
        self.after_input(shard);
        true
    }

    /// The client is gone, from one moment to the next. Some of its bytes may still arrive.
    pub(crate) fn cut(&mut self, at: usize, keep: usize) {
        self.note(|| format!("{} is cut", self.name(at)));
        let conn = &mut self.conns[at];
        conn.client_open = false;
        conn.up.truncate(keep);
        conn.down.clear();
        self.part(at);
    }

    /// The client has said its last and reads no more.
    pub(crate) fn leave(&mut self, at: usize) {
        self.conns[at].client_open = false;
        self.conns[at].down.clear();
        self.part(at);
    }

    fn part(&mut self, at: usize) {
        let client = &mut self.clients[self.conns[at].client];
        if client.conn == Some(at) {
            client.conn = None;
            client.connected = false;
        }
    }

    /// The network engine notices the end of a connection, whoever has ended it.
    pub(crate) fn notice(&mut self, at: usize, now: bool) -> bool {
        let conn = &self.conns[at];
        let (shard, id) = (conn.shard, conn.id);
        let flushed = !conn.sending && !self.shards[shard].has_output(id);
        let unread = !conn.up.is_empty() && conn.is_open() && !now;
        let ended = if conn.client_open {
            conn.stage == Stage::Closing && flushed && conn.down.is_empty()
        } else {
            !unread
        };
        if conn.stage == Stage::Gone || !ended {
            return false;
        }
        self.finish_turn(shard);
        self.check_output(at);
        self.note(|| format!("{} is closed", self.name(at)));
        self.conns[at].client_open = false;
        self.part(at);
        self.conns[at].stage = Stage::Gone;
        let hears = self.shadow.links[at].live;
        self.input(at, Input::Closed { conn: id }, None, |shadow, _, _| {
            if hears {
                shadow.lost(at);
            }
        });
        self.places[shard][id.index()] = None;
        self.after_input(shard);
        true
    }

    /// What a client does not read stays below the mark, plus one message; answers to what it sends
    /// come on top, because nothing stops a client from asking without reading.
    fn check_output(&mut self, at: usize) {
        let (shard, id) = (self.conns[at].shard, self.conns[at].id);
        let Some(out) = self.shards[shard].take_output(id) else { return };
        let swarm = &self.swarm;
        let bound = swarm.settings.output_bytes_max
            + swarm.payload_bytes_max
            + self.conns[at].arrived_bytes
            + 1000;
        let bytes = out.total_bytes();
        if bytes > bound {
            self.shadow.fail(format!("{bytes} bytes of output, at most {bound}"));
        }
    }
}
