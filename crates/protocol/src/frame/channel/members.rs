//! Who is in a channel, as it is told.

use std::sync::Arc;

use bytes::Bytes;

use super::Handle;
use crate::{
    channel::{Changes, Member, MemberChange, MemberId, Presence},
    error::Malformed,
    frame::{encode_with, flag, kind},
    limits::{MAX_CHANNEL_DATA, MAX_NAME},
    payload::Payload,
    time::UnixMillis,
    wire::{self, Length, Reader, Sink},
};

const LEFT: u8 = 0;
const HERE: u8 = 1;
const AWAY: u8 = 2;

pub(crate) fn members(handle: Handle, told: &Changes) -> Bytes {
    let flags = (if told.whole { flag::WHOLE } else { 0 }) | (if told.more { flag::GOES_ON } else { 0 });
    encode_with(kind::MEMBERS, flags, |mut sink| {
        wire::put_varint(&mut sink, handle.0);
        told.changes.iter().for_each(|change| write(&mut sink, change));
    })
}

fn write(sink: &mut impl Sink, change: &MemberChange) {
    let member = match change {
        MemberChange::Left(id) => {
            sink.put(&id.0);
            return sink.put(&[LEFT]);
        }
        MemberChange::Is(member) => member,
    };
    sink.put(&member.id.0);
    match member.presence {
        Presence::Here => sink.put(&[HERE]),
        Presence::Away(since) => {
            sink.put(&[AWAY]);
            wire::put_varint(sink, since.0);
        }
    }
    wire::put_bytes(sink, member.subject.as_bytes());
    wire::put_varint(sink, member.joined.0);
    let mut length = Length::default();
    member.data.write(&mut length);
    wire::put_varint(sink, length.0 as u64);
    member.data.write(sink);
}

pub(super) fn read_members(flags: u8, body: &Bytes, mut reader: Reader<'_>) -> Result<Changes, Malformed> {
    let mut changes = Vec::new();
    while !reader.is_empty() {
        let id = MemberId(reader.array()?);
        let presence = match reader.u8()? {
            LEFT => {
                changes.push(MemberChange::Left(id));
                continue;
            }
            HERE => Presence::Here,
            AWAY => Presence::Away(UnixMillis(reader.varint()?)),
            _ => return Err(Malformed::UnknownValue),
        };
        let subject = reader.str(MAX_NAME)?.to_owned();
        let joined = UnixMillis(reader.varint()?);
        let data = body.slice_ref(reader.bytes(1 + MAX_CHANNEL_DATA)?);
        let data = Payload::read(&data, &mut Reader::new(&data))?;
        changes.push(MemberChange::Is(Arc::new(Member { id, subject, presence, joined, data })));
    }
    let (whole, more) = (flags & flag::WHOLE != 0, flags & flag::GOES_ON != 0);
    Ok(Changes { whole, more, revision: 0, changes })
}
