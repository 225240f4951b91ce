//! Who may be what: the doorman, and the scopes and role that he gives.
//!
//! A toy. Its passwords stand here and on the page, so that whoever tries the demo can be everybody, and a name is
//! whoever takes it first or last. In its place an application asks its users, or takes the tokens of a sign-in service
//! (`[auth.jwt]`); what comes after it, the guards in `main.rs`, stays as it is.

use moorline_server::{
    Admit, Attempt, Fail, Principal,
    protocol::{
        scope::Scopes,
        subject::{Subject, Tenant},
    },
};
use serde::{Deserialize, Serialize};

use crate::{channels, room::clean_name};

/// What to say something in the room needs.
pub(crate) const SPEAK: &str = "room.speak";

/// What somebody is: a guest of the pages beside the room, or something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Guest,
    Viewer,
    Speaker,
    Admin,
}

impl Role {
    const ALL: [Self; 4] = [Self::Guest, Self::Viewer, Self::Speaker, Self::Admin];

    /// The name that guards compare.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Viewer => "viewer",
            Self::Speaker => "speaker",
            Self::Admin => "admin",
        }
    }

    /// What opens the role; `None` for those that are everybody's. The page says them, too.
    const fn toy_password(self) -> Option<&'static str> {
        match self {
            Self::Guest | Self::Viewer => None,
            Self::Speaker => Some("ahoy"),
            Self::Admin => Some("anchor"),
        }
    }

    const fn scopes(self) -> &'static str {
        match self {
            Self::Guest => channels::SCOPES,
            Self::Viewer => "call:*",
            Self::Speaker | Self::Admin => "call:* room.speak",
        }
    }

    /// The role of somebody whom the doorman let in.
    pub(crate) fn of(principal: &Principal) -> Self {
        Self::ALL.into_iter().find(|role| principal.role.as_deref() == Some(role.name())).unwrap_or(Self::Viewer)
    }
}

/// What the page shows, as the option `auth` or by `client.authenticate`.
#[derive(Deserialize)]
pub(crate) struct SignIn {
    name: String,
    role: Role,
    #[serde(default)]
    password: String,
}

/// The doorman. What he says when he refuses is what the page shows.
pub(crate) async fn doorman(attempt: Attempt) -> Result<Admit, Fail> {
    admit(&attempt.data()?).map(Admit::new)
}

fn admit(SignIn { name, role, password }: &SignIn) -> Result<Principal, Fail> {
    let name = clean_name(name)?;
    if role.toy_password().is_some_and(|right| right != password) {
        let role = role.name();
        return Err(Fail::new("wrong_password", format!("That is not the password of the role {role}.")));
    }
    let subject = Subject::new(Tenant::default(), &name)?;
    if subject.is_anonymous() {
        return Err(Fail::new("name_taken", "This name stands for everybody who has none; take another."));
    }
    let scopes = Scopes::from_text(role.scopes())?;
    Ok(Principal { role: Some(role.name().into()), scopes, ..Principal::new(subject) })
}

#[cfg(test)]
mod tests {
    use moorline_server::protocol::scope::Scope;

    use super::*;

    fn shown(name: &str, role: Role, password: &str) -> Result<Principal, Fail> {
        admit(&SignIn { name: name.into(), role, password: password.into() })
    }

    #[test]
    fn everybody_may_view_and_the_other_roles_need_their_own_password() {
        assert!(shown("Ann", Role::Viewer, "").is_ok());
        for (role, right, wrong) in [(Role::Speaker, "ahoy", "anchor"), (Role::Admin, "anchor", "ahoy")] {
            assert!(shown("Ann", role, right).is_ok_and(|who| Role::of(&who) == role));
            assert!(shown("Ann", role, wrong).is_err() && shown("Ann", role, "").is_err());
        }
    }

    #[test]
    fn a_name_is_cleaned_before_it_is_somebodys() {
        assert_eq!(
            shown(" Ann \u{202e} of  Cleves", Role::Viewer, "").expect("a name").subject.name(),
            "Ann of Cleves"
        );
        for nobody in ["", " \u{200b}", "anonymous", "anony\u{200b}mous"] {
            assert!(shown(nobody, Role::Viewer, "").is_err(), "{nobody:?}");
        }
    }

    #[test]
    fn a_guest_may_nothing_in_the_room() {
        let may = |scope| {
            let scope = Scope::parse(scope).expect("a scope");
            shown("Ann", Role::Guest, "").is_ok_and(|who| Role::of(&who) == Role::Guest && who.scopes.holds(&scope))
        };
        assert!(["topic.publish:chat:lobby", "store.write:text:harbour"].into_iter().all(may));
        assert!(!["call:join", "call:say", SPEAK, "store.admin:text:harbour"].into_iter().any(may));
    }

    #[test]
    fn only_who_speaks_has_the_scope_for_it() {
        let speak = Scope::parse(SPEAK).expect("a scope");
        let may = |role, password| shown("Ann", role, password).is_ok_and(|who| who.scopes.holds(&speak));
        assert_eq!(
            (may(Role::Viewer, ""), may(Role::Speaker, "ahoy"), may(Role::Admin, "anchor")),
            (false, true, true)
        );
    }
}
