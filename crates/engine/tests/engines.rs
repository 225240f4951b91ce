//! Every engine does what an engine must, also behind a wrapper that loses half of what it tells.

use std::sync::Arc;

use moorline_engine::{Engine, MemoryEngine, testing::Lossy};

fn memory() -> (Arc<dyn Engine>, ()) {
    (Arc::new(MemoryEngine::new([1; 32])), ())
}

mod in_memory {
    moorline_engine::engine_claims!(super::memory());
}

mod in_memory_with_losses {
    use super::*;

    moorline_engine::engine_claims!({
        let (engine, kept) = memory();
        (Arc::new(Lossy::new(engine, [2; 32])) as Arc<dyn Engine>, kept)
    });
}

#[cfg(feature = "sqlite")]
mod on_disk {
    use moorline_engine::SqliteEngine;
    use tempfile::TempDir;

    use super::*;

    fn sqlite() -> (Arc<dyn Engine>, TempDir) {
        let directory = TempDir::new().expect("a directory");
        let engine = SqliteEngine::open(&directory.path().join("channels.sqlite"), [3; 32]).expect("a file");
        (Arc::new(engine), directory)
    }

    mod as_it_is {
        moorline_engine::engine_claims!(super::sqlite());
    }

    mod with_losses {
        use super::*;

        moorline_engine::engine_claims!({
            let (engine, kept) = sqlite();
            (Arc::new(Lossy::new(engine, [2; 32])) as Arc<dyn Engine>, kept)
        });
    }
}
