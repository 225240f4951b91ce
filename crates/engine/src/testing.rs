//! What any engine must do, as tests of any engine; and a wrapper that tells its watchers only some of it.

mod claims;
mod lossy;

pub use claims::*;
pub use lossy::Lossy;

/// Makes a test of every claim about engines. `$make` gives an `Arc<dyn Engine>` without channels and what must live as
/// long as it.
#[macro_export]
macro_rules! engine_claims {
    ($make:expr) => {
        $crate::engine_claims!(
            $make,
            an_empty_log_stays_the_same_one,
            entries_are_numbered_and_read_in_their_order,
            a_log_is_read_backwards_in_pages,
            one_entry_is_read_however_large_it_is,
            an_operation_is_done_once,
            an_append_that_expects_another_end_changes_nothing,
            what_is_beyond_the_retention_is_dropped_and_its_mark_is_kept,
            age_takes_the_newest_entry_too,
            a_snapshot_is_kept_with_the_one_before_it_and_what_came_since,
            a_snapshot_of_what_is_not_there_is_refused,
            values_are_kept_beside_the_log,
            more_is_not_needed_of_a_channel_than_may_be,
            regression_a_snapshot_makes_room_also_when_the_one_before_it_covered_nothing,
            a_tenant_has_no_more_channels_of_a_kind_than_it_may,
            a_removed_channel_comes_back_as_another,
            what_was_only_asked_for_goes_when_nobody_has_it_open,
            channels_are_listed_in_their_order_and_apart,
            names_never_reach_into_another_channel,
            values_of_the_application_have_versions,
            keys_are_listed_by_their_beginning,
            many_writers_lose_nothing_and_a_follower_misses_nothing,
        );
    };
    ($make:expr, $($claim:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $claim() {
                let (engine, _kept) = $make;
                $crate::testing::$claim(engine).await;
            }
        )*
    };
}
