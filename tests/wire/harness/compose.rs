//! Packets of a client, from text to bytes. Shares no code with the broker's codec.
//!
//! ```text
//! connect [id= clean=0|1 keep= user= pass= will=TOPIC wp= wq= wretain  expiry= rmax= max= amax=
//!          rpi= rri= method= up=k:v  wdelay= wmexp= wct= wpf= wresp= wcorr= wup=
//!          level= name= flags=]
//! publish TOPIC|'' [q1|q2 id= dup retain p= pf= mexp= ct= resp= corr= up= alias= sid=]
//! puback|pubrec|pubrel|pubcomp ID [CODE]     disconnect [CODE] [expiry=]     auth [CODE] [method=]
//! subscribe ID FILTER [q1 nl rap rh=] …  [sid= up=]          unsubscribe ID FILTER …
//! pingreq        raw HEX…
//! ```
//! Properties are left out before MQTT 5.0, so that one script serves all versions.

use super::packet::{Layout, NAMES, PROPERTIES, Version, pattern};

/// Bytes of the packet that `text` describes; `id` is used if a CONNECT names none.
pub(crate) fn compose(text: &str, version: Version, id: &str) -> Vec<u8> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (name, rest) = words.split_first().expect("a packet has a name");
    if *name == "raw" {
        return hex(&rest.concat());
    }
    let kind = NAMES.iter().position(|known| known == name).expect("a known packet name");
    match *name {
        "connect" => connect(rest, version, id),
        "publish" => publish(rest, version),
        "subscribe" => subscribe(rest, version),
        "unsubscribe" => unsubscribe(rest, version),
        "disconnect" | "auth" => frame(kind, 0, &coded(Vec::new(), rest, version)),
        "pingreq" | "pingresp" => frame(kind, 0, &[]),
        _ => {
            let body = rest[0].parse::<u16>().unwrap().to_be_bytes().to_vec();
            frame(kind, if *name == "pubrel" { 2 } else { 0 }, &coded(body, &rest[1..], version))
        }
    }
}

/// Fixed header and body.
pub(crate) fn frame(kind: usize, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![(u8::try_from(kind).unwrap() << 4) | flags];
    bytes.extend(varint(body.len()));
    bytes.extend(body);
    bytes
}

pub(crate) fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return bytes;
        }
    }
}

pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digit = |index| u8::from_str_radix(&digits[index..index + 2], 16).expect("hex digits");
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// `*N`: N bytes of the pattern; `x:…`: hex; else the text itself.
fn bytes_of(value: &str) -> Vec<u8> {
    if let Some(count) = value.strip_prefix('*') {
        return pattern(count.parse().unwrap());
    }
    value.strip_prefix("x:").map_or_else(|| value.as_bytes().to_vec(), hex)
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend(bytes);
    out
}

fn value<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

pub(crate) fn number(text: &str) -> u32 {
    text.strip_prefix("0x")
        .map_or_else(|| text.parse(), |digits| u32::from_str_radix(digits, 16))
        .unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// Property section of all words `PREFIXname=value` that name a property; empty before 5.0.
fn properties(words: &[&str], prefix: &str, version: Version) -> Vec<u8> {
    if version != Version::V5 {
        return Vec::new();
    }
    let mut inner = Vec::new();
    for word in words {
        let Some((key, text)) = word.strip_prefix(prefix).and_then(|word| word.split_once('='))
        else {
            continue;
        };
        let Some((id, _, layout, _)) = PROPERTIES.iter().find(|row| row.1 == key) else {
            continue;
        };
        inner.push(*id);
        match layout {
            Layout::Byte => inner.push(u8::try_from(number(text)).unwrap()),
            Layout::Two => inner.extend(u16::try_from(number(text)).unwrap().to_be_bytes()),
            Layout::Four => inner.extend(number(text).to_be_bytes()),
            Layout::Varint => inner.extend(varint(number(text) as usize)),
            Layout::Text | Layout::Binary => inner.extend(prefixed(&bytes_of(text))),
            Layout::Pair => {
                let (name, text) = text.split_once(':').expect("up=name:value");
                inner.extend(prefixed(name.as_bytes()));
                inner.extend(prefixed(text.as_bytes()));
            }
        }
    }
    let mut out = varint(inner.len());
    out.extend(inner);
    out
}

fn connect(words: &[&str], version: Version, id: &str) -> Vec<u8> {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let will = value(words, "will");
    let flags = value(words, "flags").map_or_else(
        || {
            flag(value(words, "clean") != Some("0"), 0x02)
                | flag(will.is_some(), 0x04)
                | (value(words, "wq").map_or(0, |q| q.parse::<u8>().unwrap()) << 3)
                | flag(words.contains(&"wretain"), 0x20)
                | flag(value(words, "pass").is_some(), 0x40)
                | flag(value(words, "user").is_some(), 0x80)
        },
        |text| u8::try_from(number(text)).unwrap(),
    );
    let usual = if version == Version::V31 { "MQIsdp" } else { "MQTT" };
    let mut body = prefixed(&bytes_of(value(words, "name").unwrap_or(usual)));
    let level = value(words, "level").map_or(version as u32, number);
    body.push(u8::try_from(level).unwrap());
    body.push(flags);
    body.extend(value(words, "keep").map_or(0, |s| s.parse::<u16>().unwrap()).to_be_bytes());
    // Keep alive is a field of CONNECT, and will properties have their own section.
    let own: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.starts_with("keep=") && !word.starts_with("wdelay="))
        .collect();
    body.extend(properties(&own, "", version));
    body.extend(prefixed(&bytes_of(value(words, "id").unwrap_or(id))));
    if let Some(topic) = will {
        let own: Vec<String> = words
            .iter()
            .filter_map(|word| word.strip_prefix('w'))
            .map(|word| if word.starts_with("delay=") { format!("w{word}") } else { word.into() })
            .collect();
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        body.extend(properties(&own, "", version));
        body.extend(prefixed(&bytes_of(topic)));
        body.extend(prefixed(&bytes_of(value(words, "wp").unwrap_or(""))));
    }
    for key in ["user", "pass"] {
        if let Some(text) = value(words, key) {
            body.extend(prefixed(&bytes_of(text)));
        }
    }
    frame(1, 0, &body)
}

fn publish(words: &[&str], version: Version) -> Vec<u8> {
    let topic = if words[0] == "''" { "" } else { words[0] };
    let qos = if words.contains(&"q2") { 2 } else { u8::from(words.contains(&"q1")) };
    let flags =
        (u8::from(words.contains(&"dup")) << 3) | (qos << 1) | u8::from(words.contains(&"retain"));
    let mut body = prefixed(&bytes_of(topic));
    if qos > 0 {
        body.extend(value(words, "id").unwrap().parse::<u16>().unwrap().to_be_bytes());
    }
    body.extend(properties(words, "", version));
    body.extend(bytes_of(value(words, "p").unwrap_or("")));
    frame(3, flags, &body)
}

fn subscribe(words: &[&str], version: Version) -> Vec<u8> {
    let mut body = words[0].parse::<u16>().unwrap().to_be_bytes().to_vec();
    body.extend(properties(words, "", version));
    let is_option =
        |word: &str| matches!(word, "q0" | "q1" | "q2" | "nl" | "rap") || word.starts_with("rh=");
    let mut rest = &words[1..];
    while let Some((filter, tail)) = rest.split_first() {
        let count = tail.iter().take_while(|word| is_option(word)).count();
        let (own, tail) = tail.split_at(count);
        rest = tail;
        if filter.starts_with("sid=") || filter.starts_with("up=") {
            continue;
        }
        let mut options = if own.contains(&"q2") { 2 } else { u8::from(own.contains(&"q1")) };
        if version == Version::V5 {
            options |= u8::from(own.contains(&"nl")) << 2;
            options |= u8::from(own.contains(&"rap")) << 3;
            options |= value(own, "rh").map_or(0, |rh| rh.parse::<u8>().unwrap()) << 4;
        }
        body.extend(prefixed(&bytes_of(filter)));
        body.push(options);
    }
    frame(8, 2, &body)
}

fn unsubscribe(words: &[&str], version: Version) -> Vec<u8> {
    let mut body = words[0].parse::<u16>().unwrap().to_be_bytes().to_vec();
    body.extend(properties(words, "", version));
    for filter in words[1..].iter().filter(|word| !word.starts_with("up=")) {
        body.extend(prefixed(&bytes_of(filter)));
    }
    frame(10, 2, &body)
}

/// Appends reason code and properties as far as 5.0 has them and the text names them.
fn coded(mut body: Vec<u8>, words: &[&str], version: Version) -> Vec<u8> {
    if version == Version::V5 && !words.is_empty() {
        let code = words.iter().find(|word| !word.contains('='));
        body.push(code.map_or(0, |code| u8::try_from(number(code)).unwrap()));
        if words.iter().any(|word| word.contains('=')) {
            body.extend(properties(words, "", version));
        }
    }
    body
}
