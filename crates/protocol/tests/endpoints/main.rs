//! Both endpoints against each other, and against whoever sits between them: one behaviour a file.

mod acknowledgements;
mod backpressure;
mod calls;
mod confidentiality;
mod cuts;
mod discovery;
mod foreign;
mod handshake_attacks;
mod heartbeat;
mod identity;
mod large;
mod limits;
mod numbers;
mod overflow;
mod pair;
#[cfg(not(target_family = "wasm"))]
mod properties;
mod receipts;
mod reconnect;
mod record_attacks;
mod refusal;
mod resets;
mod resume;
#[cfg(not(target_family = "wasm"))]
mod session_properties;
mod stranger;
mod streams;
mod talk;
mod wire_snapshots;
