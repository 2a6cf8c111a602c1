//! Packets of a server, decoded and written as text. Shares no code with the broker's codec.
//!
//! Text of a packet: its lower-case name, then words. `publish a/b q1 id=7 dup retain p=x ct=json`,
//! `connack present rmax=20`, `puback 7 0x10`, `suback 3 0x01 0x8f`, `disconnect 0x8e rs=…`.

use std::fmt::Write as _;

/// Protocol version of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V31 = 3,
    V311 = 4,
    V5 = 5,
}

/// How the value of a property is laid out.
#[derive(Clone, Copy)]
pub(crate) enum Layout {
    Byte,
    Two,
    Four,
    Varint,
    Text,
    Binary,
    Pair,
}

use Layout::{Binary, Byte, Four, Pair, Text, Two, Varint};

/// Property number, name in scripts, layout, and the packet types a server may send it in.
pub(crate) const PROPERTIES: &[(u8, &str, Layout, &[u8])] = &[
    (0x01, "pf", Byte, &[3]),
    (0x02, "mexp", Four, &[3]),
    (0x03, "ct", Text, &[3]),
    (0x08, "resp", Text, &[3]),
    (0x09, "corr", Binary, &[3]),
    (0x0b, "sid", Varint, &[3]),
    (0x11, "expiry", Four, &[2]),
    (0x12, "assigned", Text, &[2]),
    (0x13, "keep", Two, &[2]),
    (0x15, "method", Text, &[2, 15]),
    (0x16, "data", Binary, &[2, 15]),
    (0x17, "rpi", Byte, &[]),
    (0x18, "wdelay", Four, &[]),
    (0x19, "rri", Byte, &[]),
    (0x1a, "respinfo", Text, &[2]),
    (0x1c, "reference", Text, &[2, 14]),
    (0x1f, "rs", Text, &[2, 4, 5, 6, 7, 9, 11, 14, 15]),
    (0x21, "rmax", Two, &[2]),
    (0x22, "amax", Two, &[2]),
    (0x23, "alias", Two, &[3]),
    (0x24, "maxq", Byte, &[2]),
    (0x25, "ravail", Byte, &[2]),
    (0x26, "up", Pair, &[2, 3, 4, 5, 6, 7, 9, 11, 14, 15]),
    (0x27, "max", Four, &[2]),
    (0x28, "wild", Byte, &[2]),
    (0x29, "sids", Byte, &[2]),
    (0x2a, "shared", Byte, &[2]),
];

/// Names by packet type.
pub(crate) const NAMES: [&str; 16] = [
    "reserved",
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
];

/// One packet from the broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packet {
    pub(crate) name: &'static str,
    pub(crate) words: Vec<String>,
    pub(crate) id: u16,
    pub(crate) qos: u8,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) codes: Vec<u8>,
}

impl Packet {
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.name, self.words.join(" "))
    }

    /// Value of the word `key=value`.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Reads over the bytes of one packet; every failure is the broker's.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        if self.0.len() < count {
            return Err(format!("{count} bytes wanted, {} left", self.0.len()));
        }
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn two(&mut self) -> Result<u16, String> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into().unwrap()))
    }

    fn four(&mut self) -> Result<u32, String> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().unwrap()))
    }

    fn binary(&mut self) -> Result<&'a [u8], String> {
        let count = usize::from(self.two()?);
        self.take(count)
    }

    fn text(&mut self) -> Result<String, String> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        if text.contains('\0') { Err("U+0000 in a string".into()) } else { Ok(text.to_owned()) }
    }

    fn varint(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for position in 0..4 {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                let minimal = position == 0 || byte != 0;
                return if minimal { Ok(value) } else { Err("long variable integer".into()) };
            }
        }
        Err("variable integer of five bytes".into())
    }

    fn properties(&mut self, kind: u8, words: &mut Vec<String>) -> Result<(), String> {
        let count = self.varint()? as usize;
        let mut inner = Reader(self.take(count)?);
        let mut seen = Vec::new();
        while !inner.0.is_empty() {
            let number = inner.byte()?;
            let Some((_, name, layout, allowed)) = PROPERTIES.iter().find(|row| row.0 == number)
            else {
                return Err(format!("property {number:#x}"));
            };
            if !allowed.contains(&kind) {
                return Err(format!("property {name} in {}", NAMES[usize::from(kind)]));
            }
            if seen.contains(&number) && !matches!(*name, "up" | "sid") {
                return Err(format!("property {name} twice"));
            }
            seen.push(number);
            words.push(match layout {
                Byte => format!("{name}={}", inner.byte()?),
                Two => format!("{name}={}", inner.two()?),
                Four => format!("{name}={}", inner.four()?),
                Varint => format!("{name}={}", inner.varint()?),
                Text => format!("{name}={}", inner.text()?),
                Binary => format!("{name}={}", payload_text(inner.binary()?)),
                Pair => format!("{name}={}:{}", inner.text()?, inner.text()?),
            });
        }
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", self.0.len())) }
    }
}

/// Payload as one word: text, `*N` for N bytes of the pattern, or `x:` and hex.
pub(crate) fn payload_text(bytes: &[u8]) -> String {
    if bytes.len() >= 64 && bytes == pattern(bytes.len()) {
        return format!("*{}", bytes.len());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control() && c != ' ') => text.to_owned(),
        _ => bytes.iter().fold("x:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}

/// Bytes that repeat at no power of two, so that a piece out of place is seen.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (b'!'..=b'~').cycle().take(count).collect()
}

/// Takes the packet at the start of `input`; `None` if it is not complete.
pub(crate) fn take(input: &mut Vec<u8>, version: Version) -> Result<Option<Packet>, String> {
    let mut reader = Reader(input);
    let Ok(first) = reader.byte() else { return Ok(None) };
    let count = match reader.varint() {
        Ok(count) => count as usize,
        Err(_) if input.len() < 5 => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(body) = reader.take(count) else { return Ok(None) };
    let total = input.len() - reader.0.len();
    let packet = decode(first, body, version)
        .map_err(|error| format!("{error} in {first:02x} {}", payload_text(body)))?;
    input.drain(..total);
    Ok(Some(packet))
}

fn decode(first: u8, body: &[u8], version: Version) -> Result<Packet, String> {
    let kind = first >> 4;
    let v5 = version == Version::V5;
    let mut packet = Packet { name: NAMES[usize::from(kind)], ..Packet::default() };
    let mut reader = Reader(body);
    match kind {
        3 => return publish(first, body, v5),
        2 => {
            let flags = reader.byte()?;
            let code = reader.byte()?;
            if flags > 1 || (code != 0 && flags != 0) {
                return Err(format!("connack flags {flags:#x} with code {code:#x}"));
            }
            packet.codes.push(code);
            packet.words.push(format!("{code:#04x}"));
            if flags == 1 {
                packet.words.push("present".into());
            }
            if v5 {
                reader.properties(kind, &mut packet.words)?;
            }
        }
        4..=7 | 9 | 11 => {
            packet.id = reader.two()?;
            if packet.id == 0 {
                return Err("packet id 0".into());
            }
            packet.words.push(packet.id.to_string());
            acknowledgement(kind, &mut reader, v5, &mut packet)?;
        }
        13 => {}
        14 | 15 if v5 => tail(kind, &mut reader, &mut packet)?,
        _ => return Err("a packet that no server sends".into()),
    }
    let flags = if kind == 6 { 2 } else { 0 };
    if first & 0x0f != flags {
        return Err("reserved flags".into());
    }
    reader.end()?;
    Ok(packet)
}

fn acknowledgement(
    kind: u8,
    reader: &mut Reader<'_>,
    v5: bool,
    packet: &mut Packet,
) -> Result<(), String> {
    let listed = kind == 9 || kind == 11;
    if !listed {
        return if v5 { tail(kind, reader, packet) } else { Ok(()) };
    }
    let mut words = Vec::new();
    if v5 {
        reader.properties(kind, &mut words)?;
    }
    packet.codes.extend(reader.take(reader.0.len())?);
    if packet.codes.is_empty() != (kind == 11 && !v5) {
        return Err(format!("codes {:?}", packet.codes));
    }
    packet.words.extend(packet.codes.iter().map(|code| format!("{code:#04x}")));
    packet.words.append(&mut words);
    Ok(())
}

/// Reason code and properties, either of which may be left out at the end.
fn tail(kind: u8, reader: &mut Reader<'_>, packet: &mut Packet) -> Result<(), String> {
    let code = if reader.0.is_empty() { 0 } else { reader.byte()? };
    packet.codes.push(code);
    packet.words.push(format!("{code:#04x}"));
    if reader.0.is_empty() { Ok(()) } else { reader.properties(kind, &mut packet.words) }
}

fn publish(first: u8, body: &[u8], v5: bool) -> Result<Packet, String> {
    let mut reader = Reader(body);
    let topic = reader.text()?;
    let qos = (first >> 1) & 3;
    let (dup, retain) = (first & 8 != 0, first & 1 != 0);
    if qos == 3 || (dup && qos == 0) || topic.contains(['+', '#']) {
        return Err("flags or topic of a publish".into());
    }
    let mut words = vec![if topic.is_empty() { "''".into() } else { topic.clone() }];
    let mut id = 0;
    if qos > 0 {
        id = reader.two()?;
        if id == 0 {
            return Err("packet id 0".into());
        }
        words.push(format!("q{qos}"));
        words.push(format!("id={id}"));
    }
    words.extend(dup.then(|| "dup".to_owned()));
    words.extend(retain.then(|| "retain".to_owned()));
    if v5 {
        reader.properties(3, &mut words)?;
    }
    let aliased = words.iter().any(|word| word.starts_with("alias="));
    if topic.is_empty() && !aliased {
        return Err("a publish without topic and alias".into());
    }
    let payload = reader.0.to_vec();
    if !payload.is_empty() {
        words.push(format!("p={}", payload_text(&payload)));
    }
    Ok(Packet { name: "publish", words, id, qos, topic, payload, codes: Vec::new() })
}
