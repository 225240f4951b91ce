//! What wasm-bindgen leaves in a module and its glue that a page need not download.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use walrus::{ElementItems, ExportItem, FunctionId, Module};

/// wasm-bindgen calls a closure by a function of this name, one for each signature.
const CLOSURE: &str = "::closures::_::invoke";

/// Takes functions out that call closures of signatures which are never used: js-sys has one for every signature of its
/// own, for wasm-bindgen to read and forget, and a place in the table of functions keeps it alive. JavaScript calls
/// closures by exports and Rust does not call them at all, so one that is not exported is never called.
pub(crate) fn drop_dead_closures(module: &mut Module) {
    let exported: BTreeSet<FunctionId> = module
        .exports
        .iter()
        .filter_map(|export| match export.item {
            ExportItem::Function(function) => Some(function),
            _ => None,
        })
        .collect();
    let is_closure = |name: &str| name.contains(CLOSURE);
    let dead: BTreeSet<FunctionId> = module
        .funcs
        .iter()
        .filter(|function| !exported.contains(&function.id()) && function.name.as_deref().is_some_and(is_closure))
        .map(|function| function.id())
        .collect();
    for element in module.elements.iter_mut() {
        let ElementItems::Functions(functions) = &mut element.items else { continue };
        // The places of the others must stay the same.
        let Some(other) = functions.iter().copied().find(|function| !dead.contains(function)) else { continue };
        for function in functions.iter_mut().filter(|function| dead.contains(function)) {
            *function = other;
        }
    }
    walrus::passes::gc::run(module);
}

/// Gives imports and exports names of a letter or two, and tells which: wasm-bindgen's carry hashes, which do not
/// compress.
pub(crate) fn shorten_names(module: &mut Module) -> BTreeMap<String, String> {
    let imports = module.imports.iter_mut().map(|import| &mut import.name);
    let exports = module.exports.iter_mut().map(|export| &mut export.name);
    // Another word of the glue's, too.
    let names = imports.chain(exports).filter(|name| *name != "memory");
    let rename = |(number, name): (usize, &mut String)| {
        let short = short(number);
        (mem::replace(name, short.clone()), short)
    };
    names.enumerate().map(rename).collect()
}

/// The name of this number: the letters in turn, then two of them. Without vowels, as no word of JavaScript is.
fn short(number: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxzBCDFGHJKLMNPQRSTVWXZ";
    let letter = char::from(LETTERS[number % LETTERS.len()]);
    let before = number.checked_sub(LETTERS.len()).map(|rest| short(rest / LETTERS.len()));
    before.unwrap_or_default() + &letter.to_string()
}

/// The text with each whole word of `names` replaced.
pub(crate) fn renamed(text: &str, names: &BTreeMap<String, String>) -> String {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_$".contains(letter);
    let mut renamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(from) = rest.find(is_word) {
        let (between, word) = rest.split_at(from);
        let (word, after) = word.split_at(word.find(|letter| !is_word(letter)).unwrap_or(word.len()));
        renamed.push_str(between);
        renamed.push_str(names.get(word).map_or(word, String::as_str));
        rest = after;
    }
    renamed + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_differ() {
        assert_eq!([0, 39, 40, 41, 80].map(short), ["b", "Z", "bb", "bc", "cb"]);
        assert_eq!((0..5_000).map(short).collect::<BTreeSet<_>>().len(), 5_000);
    }

    #[test]
    fn only_whole_words_are_renamed() {
        let names =
            BTreeMap::from([("core_new".to_owned(), "a".to_owned()), ("__wbg_get_1f".to_owned(), "b".to_owned())]);
        let text = "{ __wbg_get_1f: f } wasm.core_new(core_new_, $core_new)";
        assert_eq!(renamed(text, &names), "{ b: f } wasm.a(core_new_, $core_new)");
    }
}
