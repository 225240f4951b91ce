//! Both endpoints against each other, and against whoever sits between them: one behaviour a file.

mod backpressure;
mod calls;
mod confidentiality;
mod discovery;
mod foreign;
mod handshake_attacks;
mod heartbeat;
mod identity;
mod large;
mod limits;
mod pair;
#[cfg(not(target_family = "wasm"))]
mod properties;
mod reconnect;
mod record_attacks;
mod refusal;
mod resume;
#[cfg(not(target_family = "wasm"))]
mod session_properties;
mod stranger;
mod streams;
mod wire_snapshots;
