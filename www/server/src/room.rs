//! The room: who is in it, and what was said last. It knows no network, and everything in it has a limit.
//!
//! `www/src/api.ts` describes the same values for the page.

use std::collections::{BTreeMap, VecDeque};

use moorline_server::{Fail, protocol::frame::SessionId};
use serde::{Deserialize, Serialize};

use crate::role::Role;

const MAX_MEMBERS: usize = 100;
const MAX_NAME_CHARS: usize = 24;
const MAX_TEXT_CHARS: usize = 500;
const MAX_RECENT: usize = 50;

/// Someone in the room.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Member {
    /// Given by the room, and never twice. Others see it instead of the session.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Where the cursor was last; `None` before it moved.
    pub(crate) at: Option<Point>,
}

/// A place in the harbour: 0 to 1 from the left and from the top, so that it fits pages of every size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

/// Something that was said. Who said it is the room's knowledge, never the sender's claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) from: u64,
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) at_ms: u64,
}

/// Why the room does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    NotInside,
    Gone,
    NoName,
    NameTooLong,
    NoText,
    TextTooLong,
}

impl From<Refusal> for Fail {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::new("room_full", format!("The room holds {MAX_MEMBERS}; come back later.")),
            Refusal::NotInside => Self::new("join_first", "Join the room first."),
            Refusal::Gone => Self::new("gone", "They have left already."),
            Refusal::NoName => Self::new("name_required", "A name needs at least one character."),
            Refusal::NameTooLong => {
                Self::new("name_too_long", format!("A name has at most {MAX_NAME_CHARS} characters."))
            }
            Refusal::NoText => Self::new("text_required", "There is nothing to say yet."),
            Refusal::TextTooLong => {
                Self::new("text_too_long", format!("A message has at most {MAX_TEXT_CHARS} characters."))
            }
        }
    }
}

/// The room.
#[derive(Default)]
pub(crate) struct Room {
    members: BTreeMap<SessionId, Member>,
    recent: VecDeque<Message>,
    members_so_far: u64,
    messages_so_far: u64,
}

impl Room {
    /// Lets someone in. Who is inside already, because an answer got lost, only takes the new name and role.
    pub(crate) fn join(&mut self, session: SessionId, name: &str, role: Role) -> Result<Member, Refusal> {
        if self.members.contains_key(&session) {
            return self.turn(session, name, role);
        }
        let name = clean_name(name)?;
        if self.members.len() >= MAX_MEMBERS {
            return Err(Refusal::Full);
        }
        self.members_so_far += 1;
        let member = Member { id: self.members_so_far, name, role, at: None };
        self.members.insert(session, member.clone());
        Ok(member)
    }

    /// Gives somebody who is inside another name and role.
    pub(crate) fn turn(&mut self, session: SessionId, name: &str, role: Role) -> Result<Member, Refusal> {
        let name = clean_name(name)?;
        let member = self.members.get_mut(&session).ok_or(Refusal::NotInside)?;
        (member.name, member.role) = (name, role);
        Ok(member.clone())
    }

    pub(crate) fn say(&mut self, session: SessionId, text: &str, at_ms: u64) -> Result<Message, Refusal> {
        let member = self.members.get(&session).ok_or(Refusal::NotInside)?;
        let text = clean_text(text)?;
        self.messages_so_far += 1;
        let message = Message { id: self.messages_so_far, from: member.id, name: member.name.clone(), text, at_ms };
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(message.clone());
        Ok(message)
    }

    /// Moves a cursor; the member's number, if there is such a member.
    pub(crate) fn point(&mut self, session: SessionId, to: Point) -> Option<(u64, Point)> {
        let member = self.members.get_mut(&session)?;
        let inside = Point { x: to.x.clamp(0.0, 1.0), y: to.y.clamp(0.0, 1.0) };
        member.at = Some(inside);
        Some((member.id, inside))
    }

    pub(crate) fn leave(&mut self, session: SessionId) -> Option<Member> {
        self.members.remove(&session)
    }

    /// Forgets what was said. Numbers go on, so that no page takes a new message for one that it has.
    pub(crate) fn clear(&mut self) {
        self.recent.clear();
    }

    /// Whose number this is.
    pub(crate) fn session(&self, id: u64) -> Result<SessionId, Refusal> {
        self.members.iter().find(|(_, member)| member.id == id).map(|(session, _)| *session).ok_or(Refusal::Gone)
    }

    pub(crate) fn member(&self, session: SessionId) -> Result<&Member, Refusal> {
        self.members.get(&session).ok_or(Refusal::NotInside)
    }

    /// Who is inside, the longest there first.
    pub(crate) fn members(&self) -> Vec<Member> {
        let mut members: Vec<_> = self.members.values().cloned().collect();
        members.sort_by_key(|member| member.id);
        members
    }

    /// What was said last, the oldest first.
    pub(crate) fn recent(&self) -> Vec<Message> {
        self.recent.iter().cloned().collect()
    }
}

/// One line, single blanks, nothing invisible that could turn the text around it.
pub(crate) fn clean_name(name: &str) -> Result<String, Refusal> {
    let visible: String =
        name.chars().map(|char| if char.is_control() { ' ' } else { char }).filter(|c| !turns(*c)).collect();
    let name = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    match name.chars().count() {
        0 => Err(Refusal::NoName),
        1..=MAX_NAME_CHARS => Ok(name),
        _ => Err(Refusal::NameTooLong),
    }
}

fn clean_text(text: &str) -> Result<String, Refusal> {
    let text: String = text.chars().filter(|char| *char == '\n' || !char.is_control()).collect();
    let text = text.trim();
    match text.chars().count() {
        0 => Err(Refusal::NoText),
        1..=MAX_TEXT_CHARS => Ok(text.to_owned()),
        _ => Err(Refusal::TextTooLong),
    }
}

/// The marks that override the direction of writing (Unicode Annex 9, explicit formatting), and the invisible blanks.
fn turns(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: SessionId = SessionId([1; 16]);
    const BEN: SessionId = SessionId([2; 16]);

    fn room_with_ann() -> Result<Room, Refusal> {
        let mut room = Room::default();
        room.join(ANN, "Ann", Role::Speaker)?;
        Ok(room)
    }

    fn member(id: u64, name: &str, role: Role) -> Member {
        Member { id, name: name.into(), role, at: None }
    }

    #[test]
    fn who_joins_sees_who_is_there_and_what_was_said() -> Result<(), Refusal> {
        let mut room = room_with_ann()?;
        room.say(ANN, "hello", 5)?;
        let ben = room.join(BEN, "Ben", Role::Viewer)?;
        assert_eq!(room.members().iter().map(|member| &*member.name).collect::<Vec<_>>(), ["Ann", "Ben"]);
        let hello = Message { id: 1, from: 1, name: "Ann".into(), text: "hello".into(), at_ms: 5 };
        assert_eq!((ben.id, room.recent()), (2, vec![hello]));
        Ok(())
    }

    #[test]
    fn joining_twice_makes_no_second_member() -> Result<(), Refusal> {
        let mut room = room_with_ann()?;
        assert_eq!(room.join(ANN, "Anna", Role::Admin)?, member(1, "Anna", Role::Admin));
        assert_eq!(room.members().len(), 1);
        Ok(())
    }

    #[test]
    fn a_number_is_not_given_again() -> Result<(), Refusal> {
        let mut room = room_with_ann()?;
        assert_eq!(room.leave(ANN).map(|member| member.id), Some(1));
        assert_eq!(room.leave(ANN), None);
        assert_eq!(room.join(BEN, "Ben", Role::Viewer)?.id, 2);
        Ok(())
    }

    #[test]
    fn outside_nobody_speaks_points_or_renames() {
        let mut room = Room::default();
        assert_eq!(room.say(ANN, "hello", 0), Err(Refusal::NotInside));
        assert_eq!(room.turn(ANN, "Anna", Role::Speaker), Err(Refusal::NotInside));
        assert_eq!(room.point(ANN, Point { x: 0.5, y: 0.5 }), None);
    }

    #[test]
    fn a_message_keeps_the_name_it_was_said_under() -> Result<(), Refusal> {
        let mut room = room_with_ann()?;
        room.say(ANN, "hello", 0)?;
        room.turn(ANN, "Anna", Role::Speaker)?;
        room.say(ANN, "hello again", 0)?;
        assert_eq!(room.recent().iter().map(|message| &*message.name).collect::<Vec<_>>(), ["Ann", "Anna"]);
        Ok(())
    }

    #[test]
    fn the_room_holds_so_many_and_no_more() -> Result<(), Refusal> {
        let mut room = Room::default();
        for number in 0..MAX_MEMBERS {
            let number = u8::try_from(number).unwrap_or(u8::MAX);
            room.join(SessionId([number; 16]), "someone", Role::Viewer)?;
        }
        assert_eq!(room.join(SessionId([200; 16]), "late", Role::Admin), Err(Refusal::Full));
        Ok(())
    }

    #[test]
    fn the_oldest_message_makes_room_for_the_newest() -> Result<(), Refusal> {
        let mut room = room_with_ann()?;
        for _ in 0..=MAX_RECENT {
            room.say(ANN, "hello", 0)?;
        }
        let ids: Vec<_> = room.recent().iter().map(|message| message.id).collect();
        assert_eq!((ids.len(), ids.first()), (MAX_RECENT, Some(&2)));
        Ok(())
    }

    #[test]
    fn a_cleared_room_is_empty_and_its_numbers_go_on() -> Result<(), Refusal> {
        let mut room = room_with_ann()?;
        room.say(ANN, "hello", 0)?;
        room.clear();
        assert_eq!(room.recent(), []);
        assert_eq!(room.say(ANN, "hello again", 0)?.id, 2);
        Ok(())
    }

    #[test]
    fn a_number_leads_to_its_session_until_it_has_left() -> Result<(), Refusal> {
        let mut room = room_with_ann()?;
        assert_eq!(room.session(1), Ok(ANN));
        room.leave(ANN);
        assert_eq!(room.session(1), Err(Refusal::Gone));
        Ok(())
    }

    #[test]
    fn names_are_one_short_visible_line() {
        assert_eq!(clean_name("  Ann \n\t of  Cleves "), Ok("Ann of Cleves".into()));
        assert_eq!(clean_name("\u{202e}nnA\u{200b}"), Ok("nnA".into()));
        assert_eq!(clean_name(" \u{200b} "), Err(Refusal::NoName));
        assert_eq!(clean_name(&"ö".repeat(MAX_NAME_CHARS)), Ok("ö".repeat(MAX_NAME_CHARS)));
        assert_eq!(clean_name(&"ö".repeat(MAX_NAME_CHARS + 1)), Err(Refusal::NameTooLong));
    }

    #[test]
    fn texts_are_counted_in_characters() {
        assert_eq!(clean_text(" two\nlines\u{7} "), Ok("two\nlines".into()));
        assert_eq!(clean_text(" \n "), Err(Refusal::NoText));
        assert_eq!(clean_text(&"ö".repeat(MAX_TEXT_CHARS)).map(|text| text.len()), Ok(2 * MAX_TEXT_CHARS));
        assert_eq!(clean_text(&"ö".repeat(MAX_TEXT_CHARS + 1)), Err(Refusal::TextTooLong));
    }

    #[test]
    fn a_cursor_stays_in_the_harbour() -> Result<(), Refusal> {
        let mut room = room_with_ann()?;
        assert_eq!(room.point(ANN, Point { x: -3.0, y: 9.0 }), Some((1, Point { x: 0.0, y: 1.0 })));
        assert_eq!(room.members()[0].at, Some(Point { x: 0.0, y: 1.0 }));
        Ok(())
    }

    #[test]
    fn the_page_gets_the_shapes_of_its_api() -> serde_json::Result<()> {
        let ann = member(1, "Ann", Role::Speaker);
        assert_eq!(serde_json::to_string(&ann)?, r#"{"id":1,"name":"Ann","role":"speaker","at":null}"#);
        let message = Message { id: 1, from: 2, name: "Ann".into(), text: "hi".into(), at_ms: 3 };
        assert_eq!(serde_json::to_string(&message)?, r#"{"id":1,"from":2,"name":"Ann","text":"hi","atMs":3}"#);
        Ok(())
    }
}
