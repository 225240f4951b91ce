//! What channels are called.

use moorline_protocol::{
    channel::{ChannelId, Kind},
    payload::Name,
    subject::Tenant,
};

/// Most channels of a world.
pub(super) const MOST_CHANNELS: usize = 3;

pub(super) fn name_of(channel: usize) -> Name {
    Name::new(&format!("room:{channel}")).expect("a name")
}

pub(super) fn id_of(channel: usize) -> ChannelId {
    ChannelId::new(Tenant::default(), Kind::Topic, name_of(channel))
}

pub(super) fn number_of(name: &Name) -> Option<usize> {
    name.as_str().strip_prefix("room:")?.parse().ok().filter(|number| *number < MOST_CHANNELS)
}
