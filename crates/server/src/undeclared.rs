//! Channels that nobody has declared, while a program is being written: a topic is made when somebody asks for one, and the
//! log says what to add to the configuration. A store is not, since what is written to one stays on the disk, and a page may
//! make up any number of names: there whoever asks is told what to add, too. Only where the server is open to this machine
//! alone, and was told so (`ServerBuilder::dev`).

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use moorline_protocol::pattern::Pattern;

use crate::config::Quoted;

/// Patterns of topics, and of stores, that the log tells of. Names come from pages: beyond so many it is not the first of each that helps.
const TOLD: usize = 32;

/// Which channels the log has told of.
pub(crate) struct Undeclared {
    /// Where what is told is to be added.
    file: PathBuf,
    topics: Told,
    stores: Told,
}

/// The patterns that the log has told of.
#[derive(Default)]
struct Told(Mutex<BTreeSet<String>>);

impl Told {
    /// What the log is to say of a pattern: once, and of a bounded number. `one` says it, `rest` stands for all others.
    fn tell(&self, pattern: &str, one: impl FnOnce() -> String, rest: &str) -> Option<String> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() > TOLD || told.contains(pattern) {
            return None;
        }
        told.insert(pattern.to_owned());
        Some(if told.len() <= TOLD { one() } else { format!("more than {TOLD} patterns of {rest}") })
    }
}

impl Undeclared {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file: file.unwrap_or_else(|| "moorline.toml".into()), topics: Told::default(), stores: Told::default() }
    }

    /// Whether there is a topic of this name: unless no declaration could be about it. The log has what declares it.
    pub(crate) fn makes_topic(&self, name: &str) -> bool {
        let Some(pattern) = pattern(name) else { return false };
        if let Some(words) = self.tell(name, &pattern) {
            tracing::warn!("{words}");
        }
        true
    }

    /// What whoever asks for a store of this name is to do, unless no declaration could be about it. The log has it, too.
    pub(crate) fn refuse_store(&self, name: &str) -> Option<String> {
        let pattern = pattern(name)?;
        if let Some(words) = self.tell_store(name, &pattern) {
            tracing::warn!("{words}");
        }
        let file = self.file.display();
        Some(format!("The store is not declared. Add to {file}, and restart the server: [stores.{}]", Quoted(&pattern)))
    }

    fn tell(&self, name: &str, pattern: &str) -> Option<String> {
        let one = || {
            format!(
                "the topic {} is not declared; it is made because of --dev. To have it without, add to {}:\n\n\
                 [topics.{}]\npresence = true\n",
                Quoted(name),
                self.file.display(),
                Quoted(pattern)
            )
        };
        self.topics.tell(pattern, one, "topics are not declared; the others are made without a word")
    }

    fn tell_store(&self, name: &str, pattern: &str) -> Option<String> {
        let one = || {
            format!(
                "the store {} is not declared; --dev makes none, for what is written to one stays on the disk. To have it, \
                 add to {}:\n\n[stores.{}]\nmax_bytes = \"256MiB\"\n",
                Quoted(name),
                self.file.display(),
                Quoted(pattern)
            )
        };
        self.stores.tell(pattern, one, "stores are not declared; the others are refused without a line here")
    }
}

/// The pattern that somebody who declares this name most likely wants: of several segments the first as it is, and `{…}`
/// for those with a digit in them; where none has, for the last.
fn pattern(name: &str) -> Option<String> {
    let segments: Vec<&str> = name.split_inclusive([':', '/']).collect();
    let varies = |segment: &str| segment.bytes().any(|byte| byte.is_ascii_digit());
    let any = segments.iter().skip(1).any(|segment| varies(segment));
    let mut captures = 0;
    let pattern: String = segments
        .iter()
        .enumerate()
        .map(|(place, segment)| {
            let text = segment.trim_end_matches([':', '/']);
            let captured = place > 0 && if any { varies(text) } else { place + 1 == segments.len() };
            if !captured {
                return (*segment).to_owned();
            }
            captures += 1;
            let number = if captures == 1 { String::new() } else { captures.to_string() };
            format!("{{id{number}}}{}", &segment[text.len()..])
        })
        .collect();
    Pattern::parse(&pattern).is_ok_and(|pattern| pattern.matches(name)).then_some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_name_gives_the_pattern_that_is_most_likely_wanted() {
        for (name, wanted) in [
            ("lobby", Some("lobby")),
            ("room:lobby", Some("room:{id}")),
            ("room:42", Some("room:{id}")),
            ("game:42:moves", Some("game:{id}:moves")),
            ("game/42:7/chat", Some("game/{id}:{id2}/chat")),
            ("chat/acme/general", Some("chat/acme/{id}")),
            ("42", Some("42")),
            ("räume:küche", Some("räume:{id}")),
            // No declaration is about these.
            ("room:", None),
            (":room", None),
            ("a::b", None),
            ("val*", None),
            ("{", None),
        ] {
            assert_eq!(pattern(name).as_deref(), wanted, "{name}");
        }
        // A pattern is no longer than a name, so a declaration of this one would say it all.
        assert_eq!(pattern(&format!("{}:1", "r".repeat(198))), None);
    }

    #[test]
    fn each_pattern_is_told_of_once_with_lines_that_declare_it_and_not_more_than_so_many() {
        let undeclared = Undeclared::new(None);
        let tell = |name: &str| undeclared.tell(name, &pattern(name).expect("a pattern"));
        let words = tell("a\"\\:lobby").expect("the first time");
        let (said, lines) = words.split_once("moorline.toml:\n").expect("the file");
        assert!(said.starts_with("the topic \"a\\\"\\\\:lobby\" is not declared"), "{said}");
        let topics = Config::parse(lines, "").expect("it does").topics;
        assert!(topics[0].pattern.matches("a\"\\:lobby") && topics[0].presence);
        assert_eq!(tell("a\"\\:kitchen"), None);
        let told = (0..10 * TOLD).filter_map(|number| tell(&format!("kind{number}:x"))).collect::<Vec<_>>();
        assert_eq!(told.len(), TOLD);
        assert!(told.last().is_some_and(|last| last.contains("without a word")));
    }

    #[test]
    fn who_asks_for_an_undeclared_store_is_told_what_declares_it_and_the_log_says_it_once() {
        let undeclared = Undeclared::new(None);
        let name = "notes/\"7\"";
        let words = undeclared.tell_store(name, &pattern(name).expect("a pattern")).expect("the first time");
        let (said, lines) = words.split_once("moorline.toml:\n").expect("the file");
        assert!(said.starts_with("the store \"notes/\\\"7\\\"\" is not declared"), "{said}");
        let stores = Config::parse(lines, "").expect("it does").stores;
        assert!(stores[0].pattern.matches(name));
        assert_eq!(undeclared.tell_store("notes/8", "notes/{id}"), None);
        // Whoever asks is told each time, in one line.
        for _ in 0..2 {
            let told = undeclared.refuse_store("notes/8").expect("what to do");
            assert!(told.ends_with("[stores.\"notes/{id}\"]") && !told.contains('\n'), "{told}");
        }
        assert_eq!(undeclared.refuse_store("notes//"), None);
        let told = (0..10 * TOLD).filter_map(|n| undeclared.tell_store("x", &format!("kind{n}/x"))).collect::<Vec<_>>();
        assert_eq!(told.len(), TOLD);
        assert!(told.last().is_some_and(|last| last.contains("without a line")));
    }
}
