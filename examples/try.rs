//! throw-away
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let mut config = culex::config::Config::default();
    let args: Vec<String> = std::env::args().collect();
    let mut shards = None;
    for w in args.windows(2) { if w[0]=="-p" { config.listeners[0].address.set_port(w[1].parse().unwrap()); } if w[0]=="--shards" { shards = Some(w[1].parse().unwrap()); } }
    if args.iter().any(|a| a=="-v") { tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).init(); }
    let running = culex::broker::start(&config, shards::placement::choose(shards, None).unwrap()).unwrap();
    eprintln!("listening {:?}", running.addresses());
    running.join().unwrap();
}
