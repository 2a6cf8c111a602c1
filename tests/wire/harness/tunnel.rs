//! Carries plain connections of tests to the broker inside other transports, so that any script
//! runs over any transport.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// What the connections of a tunnel are carried in.
#[derive(Clone, Default)]
pub(crate) struct Carrier {
    /// Bytes in front of everything.
    pub(crate) header: Vec<u8>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) websocket: Option<WebsocketClient>,
}

/// How frames of a client are cut.
#[derive(Clone, Copy)]
pub(crate) struct WebsocketClient {
    /// Most bytes of a frame.
    pub(crate) frame_bytes_max: usize,
    /// Frames of one message.
    pub(crate) frames_max: usize,
}

/// A local address whose connections come out at the broker.
pub(crate) struct Tunnel {
    pub(crate) address: SocketAddr,
}

/// TCP or Unix.
enum Upstream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Tunnel {
    /// Listens until the process ends.
    pub(crate) fn open(broker: String, carrier: Carrier) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for local in listener.incoming().map_while(Result::ok) {
                let (broker, carrier) = (broker.clone(), carrier.clone());
                std::thread::spawn(move || carry(local, &broker, &carrier));
            }
        });
        Self { address }
    }
}

fn carry(local: TcpStream, broker: &str, carrier: &Carrier) {
    local.set_nodelay(true).unwrap();
    let upstream = Upstream::connect(broker);
    let mut layers = Layers {
        header: carrier.header.clone(),
        tls: carrier.tls.clone().map(|config| {
            let name = ServerName::try_from("localhost").unwrap();
            ClientConnection::new(config, name).unwrap()
        }),
        websocket: carrier.websocket.map(Websocket::new),
        held: Vec::new(),
    };
    upstream.write(&layers.begin());
    let layers = Arc::new(Mutex::new(layers));
    let (other_layers, other_local) = (Arc::clone(&layers), local.try_clone().unwrap());
    let other_upstream = upstream.try_clone();
    let back = std::thread::spawn(move || back(&other_layers, other_local, &other_upstream));
    let mut buffer = vec![0; 64 * 1024];
    let mut from_test = &local;
    loop {
        match from_test.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            // The lock is held while writing, so that records stay in order.
            Ok(count) => {
                let mut layers = layers.lock().unwrap();
                let wire = layers.wrap(&buffer[..count]);
                upstream.write(&wire);
            }
        }
    }
    upstream.shutdown();
    back.join().unwrap();
}

/// From the broker to the test.
fn back(layers: &Mutex<Layers>, mut local: TcpStream, upstream: &Upstream) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match upstream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let plain = {
            let mut layers = layers.lock().unwrap();
            let (plain, answer) = layers.unwrap(&buffer[..count]);
            upstream.write(&answer);
            plain
        };
        let _ = local.write_all(&plain);
    }
    let _ = local.shutdown(Shutdown::Write);
}

/// The client's side of the transports, as the broker has its own in `transport::Stack`.
struct Layers {
    header: Vec<u8>,
    tls: Option<ClientConnection>,
    websocket: Option<Websocket>,
    /// Bytes of the test that wait for the layers to be ready.
    held: Vec<u8>,
}

impl Layers {
    fn begin(&mut self) -> Vec<u8> {
        let mut wire = std::mem::take(&mut self.header);
        let request = self.websocket.as_ref().map(|_| REQUEST.as_bytes()).unwrap_or_default();
        wire.extend(self.encrypt(request));
        wire
    }

    fn encrypt(&mut self, plain: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return plain.to_vec() };
        let (mut wire, mut rest) = (Vec::new(), plain);
        loop {
            let taken = tls.writer().write(rest).unwrap();
            rest = &rest[taken..];
            while tls.wants_write() {
                tls.write_tls(&mut wire).unwrap();
            }
            if rest.is_empty() || taken == 0 {
                assert!(rest.is_empty(), "the handshake comes before large writes");
                return wire;
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
            && self.websocket.as_ref().is_none_or(|websocket| websocket.open)
    }

    fn wrap(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        if !self.is_ready() {
            return Vec::new();
        }
        let bytes = std::mem::take(&mut self.held);
        let frames = match &mut self.websocket {
            Some(websocket) => websocket.frames(&bytes),
            None => bytes,
        };
        self.encrypt(&frames)
    }

    /// Plain bytes, and what is to be answered.
    fn unwrap(&mut self, wire: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut plain = Vec::new();
        if let Some(tls) = &mut self.tls {
            let mut rest = wire;
            while !rest.is_empty() {
                tls.read_tls(&mut rest).unwrap();
                let state = tls.process_new_packets().expect("the broker speaks TLS");
                let mut piece = vec![0; state.plaintext_bytes_to_read()];
                tls.reader().read_exact(&mut piece).unwrap();
                plain.extend(piece);
            }
        } else {
            plain.extend_from_slice(wire);
        }
        if let Some(websocket) = &mut self.websocket {
            plain = websocket.data(&plain);
        }
        let mut answer = self.encrypt(&[]);
        if self.is_ready() && !self.held.is_empty() {
            answer.extend(self.wrap(&[]));
        }
        (plain, answer)
    }
}

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

struct Websocket {
    cut: WebsocketClient,
    open: bool,
    input: Vec<u8>,
    ended: bool,
}

impl Websocket {
    fn new(cut: WebsocketClient) -> Self {
        Self { cut, open: false, input: Vec::new(), ended: false }
    }

    /// Masked frames around `bytes`, cut into messages and frames.
    fn frames(&self, bytes: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        let pieces: Vec<&[u8]> = bytes.chunks(self.cut.frame_bytes_max).collect();
        for message in pieces.chunks(self.cut.frames_max) {
            for (index, piece) in message.iter().enumerate() {
                let opcode = if index == 0 { 2 } else { 0 };
                let last = if index + 1 == message.len() { 0x80 } else { 0 };
                wire.extend(client_frame(opcode | last, piece));
            }
        }
        wire
    }

    /// The data in frames of the broker, which are all binary, unmasked and whole messages.
    fn data(&mut self, wire: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(wire);
        if !self.open {
            let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Vec::new();
            };
            let response = String::from_utf8(self.input.drain(..end + 4).collect()).unwrap();
            assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
            assert!(response.contains("Sec-WebSocket-Protocol: mqtt\r\n"), "{response}");
            self.open = true;
        }
        let mut data = Vec::new();
        while let Some((first, payload)) = take_server_frame(&mut self.input) {
            assert!(!self.ended, "a frame after the close frame");
            match first {
                0x82 => data.extend(payload),
                0x88 => self.ended = true,
                0x8a => {}
                other => panic!("a frame that begins with {other:#x}"),
            }
        }
        data
    }
}

/// A masked frame.
pub(crate) fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0xa5, 0x5a, 0x3c, 0xc3];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | u8::try_from(short).unwrap()),
        medium @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            frame.push(0xff);
            frame.extend(u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// First byte and payload of the next whole frame of a server.
pub(crate) fn take_server_frame(input: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&first, &second) = (input.first()?, input.get(1)?);
    let (header_bytes, payload_bytes) = match second {
        126 => (4, usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)).ok()?),
        short @ 0..=125 => (2, usize::from(short)),
        masked => panic!("a server does not mask: {masked:#x}"),
    };
    let payload = input.get(header_bytes..header_bytes + payload_bytes)?.to_vec();
    input.drain(..header_bytes + payload_bytes);
    Some((first, payload))
}

impl Upstream {
    fn connect(broker: &str) -> Self {
        match broker.strip_prefix("unix:") {
            Some(path) => Self::Unix(UnixStream::connect(path).expect("the broker accepts")),
            None => {
                let stream = TcpStream::connect(broker).expect("the broker accepts");
                stream.set_nodelay(true).unwrap();
                Self::Tcp(stream)
            }
        }
    }

    fn try_clone(&self) -> Self {
        match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone().unwrap()),
            Self::Unix(stream) => Self::Unix(stream.try_clone().unwrap()),
        }
    }

    fn read(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(buffer),
            Self::Unix(stream) => (&*stream).read(buffer),
        }
    }

    /// That the broker has closed is seen by the next read.
    fn write(&self, bytes: &[u8]) {
        let _ = match self {
            Self::Tcp(stream) => (&*stream).write_all(bytes),
            Self::Unix(stream) => (&*stream).write_all(bytes),
        };
    }

    fn shutdown(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}
