//! The engine on real loopback sockets. No sleeps, no fixed ports.

#[cfg(test)]
mod buffers_run_out;
#[cfg(test)]
mod churn_leaves_nothing;
#[cfg(test)]
mod close_after_flush;
#[cfg(test)]
mod common;
#[cfg(test)]
mod controls;
#[cfg(test)]
mod deadlines;
#[cfg(test)]
mod descriptors_run_out;
#[cfg(test)]
mod echo;
#[cfg(test)]
mod half_close;
#[cfg(test)]
mod hand_over;
#[cfg(test)]
mod mail;
#[cfg(test)]
mod panic_ends_the_process;
#[cfg(test)]
mod pause_loses_nothing;
#[cfg(test)]
mod reset_while_sending;
#[cfg(test)]
mod shared_pieces;
#[cfg(test)]
mod start_errors;
#[cfg(test)]
mod stop_flushes;
#[cfg(test)]
mod watchdog;
