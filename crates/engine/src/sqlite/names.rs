//! Which channels there are.

use moorline_protocol::{
    channel::{ChannelId, Kind},
    payload::Name,
    subject::Tenant,
};
use rusqlite::Connection;

use super::log::signed;
use crate::{EngineError, error::StorageFault};

/// Removes logs of which nothing was ever kept and that nobody has open, of at most `most` with a greater id than `after`.
/// Gives the channels that are gone, and the id to go on after; `None` at the end.
pub(super) fn forget_unwritten(
    connection: &Connection,
    after: i64,
    most: usize,
    is_open: &dyn Fn(&ChannelId) -> bool,
) -> Result<(Vec<ChannelId>, Option<i64>), EngineError> {
    let sql = "SELECT id, kind, tenant, name FROM logs WHERE written = 0 AND id > ? ORDER BY id LIMIT ?";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map((after, signed(most as u64)), |row| {
        Ok((row.get(0)?, row.get::<_, u64>(1)?, row.get::<_, String>(2)?, row.get::<_, String>(3)?))
    })?;
    let found = found.collect::<Result<Vec<(i64, _, _, _)>, _>>()?;
    let more = found.last().filter(|_| found.len() == most).map(|(id, ..)| *id);
    let mut gone = Vec::new();
    for (id, kind, tenant, name) in found {
        // One that can have no name is for `verify` to tell of.
        let Some(channel) = Kind::from_number(kind).and_then(|kind| id_of(kind, &tenant, &name)) else { continue };
        if !is_open(&channel) {
            connection.prepare_cached("DELETE FROM logs WHERE id = ?")?.execute((id,))?;
            gone.push(channel);
        }
    }
    Ok((gone, more))
}

fn id_of(kind: Kind, tenant: &str, name: &str) -> Option<ChannelId> {
    Some(ChannelId::new(Tenant::new(tenant).ok()?, kind, Name::new(name).ok()?))
}

/// Channels of a kind in the order of their names; see [`Engine::channels`](crate::Engine::channels).
pub(super) fn channels(
    connection: &Connection,
    kind: Kind,
    tenant: Option<&Tenant>,
    after: Option<&ChannelId>,
    most: usize,
) -> Result<Vec<ChannelId>, EngineError> {
    let (of, begins) = (tenant.map(Tenant::as_str), after.map(|id| (id.tenant.as_str(), id.name.as_str())));
    // Only what is asked for stands there: with `OR` SQLite would read every name for each page.
    let within = if of.is_some() { "AND tenant = ?2" } else { "AND ?2 IS NULL" };
    let behind = if begins.is_some() { "AND (tenant, name) > (?3, ?4)" } else { "AND ?3 IS NULL AND ?4 IS NULL" };
    let sql = format!("SELECT tenant, name FROM logs WHERE kind = ?1 {within} {behind} ORDER BY tenant, name LIMIT ?5");
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&sql)?;
    let asked = (kind as i64, of, begins.map(|(tenant, _)| tenant), begins.map(|(_, name)| name), most);
    let rows = statement.query_map(asked, |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (tenant, name) = row?;
        let strange = || EngineError::Storage(StorageFault("a channel has a name that none can have".into()));
        id_of(kind, &tenant, &name).ok_or_else(strange)
    })
    .collect()
}
