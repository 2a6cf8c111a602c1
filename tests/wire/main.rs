//! Wire tests: the real binary, real sockets, every feature for every version at one and two
//! shards.
//!
//! `CULEX_TEST_ADDRESS=HOST:PORT` runs them against another broker; what needs a broker with limits
//! of its own is then left out. How a script is written: `harness/script.rs`.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod auth_refused;
#[cfg(test)]
mod client_id;
#[cfg(test)]
mod connect_accepted;
#[cfg(test)]
mod connect_not_granted;
#[cfg(test)]
mod connect_refused;
#[cfg(test)]
mod connection_cycles;
#[cfg(test)]
mod disconnect_rules;
#[cfg(test)]
mod first_packet;
#[cfg(test)]
mod keep_alive;
#[cfg(test)]
mod listener_offers;
#[cfg(test)]
mod listener_users;
#[cfg(test)]
mod listeners_reload;
#[cfg(test)]
mod login;
#[cfg(test)]
mod malformed_packets;
#[cfg(test)]
mod maximum_packet_size;
#[cfg(test)]
mod message_expiry;
#[cfg(test)]
mod no_strings_added;
#[cfg(test)]
mod other_transports;
#[cfg(test)]
mod overlapping_subscriptions;
#[cfg(test)]
mod payload_format;
#[cfg(test)]
mod problem_information;
#[cfg(test)]
mod process;
#[cfg(test)]
mod properties_forwarded;
#[cfg(test)]
mod proxy_protocol;
#[cfg(test)]
mod qos_both_ways;
#[cfg(test)]
mod queue_limits;
#[cfg(test)]
mod receive_maximum;
mod recovering;
#[cfg(test)]
mod resume_resends_with_dup;
#[cfg(test)]
mod retained;
#[cfg(test)]
mod session_expiry;
#[cfg(test)]
mod session_resume;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod shared_subscriptions;
#[cfg(test)]
mod slow_subscriber;
#[cfg(test)]
mod small_rules;
#[cfg(test)]
mod socket_shapes;
#[cfg(test)]
mod start_and_stop;
#[cfg(test)]
mod subscribe_and_unsubscribe;
#[cfg(test)]
mod subscribe_options;
#[cfg(test)]
mod sys_topics;
#[cfg(test)]
mod take_over;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tls_files;
#[cfg(test)]
mod tls_reload;
#[cfg(test)]
mod topic_alias;
#[cfg(test)]
mod topic_rules;
#[cfg(test)]
mod unix_socket;
#[cfg(test)]
mod unknown_packet_ids;
#[cfg(test)]
mod websocket;
#[cfg(test)]
mod wildcards;
#[cfg(test)]
mod will;
#[cfg(test)]
mod will_delay;
