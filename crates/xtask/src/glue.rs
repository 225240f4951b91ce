//! What wasm-bindgen leaves in a module and its glue that a page need not download.

use std::collections::BTreeSet;

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
