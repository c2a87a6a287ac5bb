//! What every store does: one list of tests, run over each backend.

mod support;

mod conformance {
    mod campaigns;
    mod confirmation;
    mod durability;
    mod exclusions;
    mod findings;
    mod ingest;
    mod leases;
    mod orders;
    mod poison;
    mod records;
    mod revisits;
    mod schedules;
    mod sightings;
    mod sums;

    macro_rules! suite {
        ($backend:ident) => {
            mod $backend {
                suite! { $backend:
                    campaigns::a_campaign_is_created_once,
                    campaigns::a_removed_campaign_leaves_the_audit_log_and_the_others,
                    campaigns::campaigns_are_listed_newest_first,
                    campaigns::a_campaign_that_cannot_be_read_is_listed_and_steered,
                    campaigns::a_campaign_moves_only_from_a_named_state,
                    campaigns::progress_tells_shards_leases_outcomes_and_verdicts,
                    campaigns::only_open_shards_of_running_campaigns_are_offered,
                    campaigns::a_local_campaign_is_offered_to_its_own_process_alone,
                    campaigns::a_campaign_ends_only_when_no_shard_is_open,
                    campaigns::resuming_repeats_unproven_endpoints_once,
                    campaigns::resuming_beside_housekeeping_always_repeats,
                    campaigns::a_new_authorization_takes_the_place_of_the_old_one,
                    campaigns::leases_housekeeping_and_watching_read_no_findings,
                    campaigns::what_workers_complain_of_is_shown_for_a_minute,
                    leases::a_shard_is_granted_again_only_after_ttl_and_margin,
                    leases::a_block_is_in_one_live_lease_over_all_campaigns,
                    leases::the_rates_of_live_leases_never_exceed_the_cap,
                    leases::a_renewal_moves_the_rate_as_far_as_the_caps_let_it,
                    sums::demands_tell_what_campaigns_have_and_could_use,
                    leases::the_caps_of_authorization_and_site_are_over_all_campaigns,
                    poison::a_shard_that_never_moves_is_cut_and_then_quarantined,
                    poison::a_quarantined_shard_says_what_its_last_worker_said,
                    poison::a_shard_that_moves_or_is_handed_back_is_not_poison,
                    leases::a_renewal_is_refused_to_stale_tokens_and_stopped_campaigns,
                    leases::a_dead_lease_cannot_be_renewed,
                    leases::a_shard_whose_block_was_taken_over_is_not_revived,
                    leases::a_released_shard_is_free_at_once_and_keeps_its_cursor,
                    leases::the_leases_of_local_campaigns_can_be_ended_at_once,
                    leases::concurrent_grants_share_no_block_and_keep_the_cap,
                    sums::many_leases_are_renewed_at_once,
                    sums::what_is_over_is_ended_and_its_rate_is_free,
                    sums::a_renewal_that_was_held_up_moves_no_rate,
                    sums::concurrent_leases_keep_sums_and_caps,
                    ingest::a_batch_stores_observations_findings_and_progress,
                    ingest::a_batch_delivered_twice_changes_nothing,
                    ingest::a_stale_token_keeps_observations_but_not_the_cursor,
                    ingest::a_token_that_was_never_issued_is_fenced,
                    ingest::a_token_that_is_not_current_counts_for_a_week,
                    ingest::a_shard_closes_only_when_its_outcomes_add_up,
                    ingest::a_lost_answer_is_no_lost_lease,
                    ingest::a_protocol_of_a_later_version_is_stored_and_shown,
                    ingest::an_earlier_observation_never_replaces_a_later_one,
                    ingest::a_visit_that_breaks_early_forgets_nothing,
                    ingest::vantage_points_are_merged,
                    ingest::concurrent_vantage_points_are_merged,
                    ingest::overlapping_batches_do_not_deadlock,
                    ingest::hostile_text_is_kept_as_it_came,
                    ingest::what_no_honest_worker_sends_is_refused,
                    ingest::a_large_batch_is_stored_whole,
                    sightings::a_sighting_after_its_observation_opens_it,
                    sightings::a_sighting_before_its_observation_opens_it,
                    sightings::a_sighting_beside_its_observation_opens_it,
                    sightings::a_mail_that_the_campaigns_canary_did_not_sign_proves_nothing,
                    sightings::sightings_are_recorded_together,
                    sightings::the_earliest_sighting_is_kept,
                    sightings::only_an_accepted_mail_is_awaited,
                    sightings::what_older_rules_judged_is_judged_again,
                    sightings::sightings_of_no_finding_are_forgotten,
                    sightings::housekeeping_looks_at_a_stray_once,
                    findings::findings_come_in_the_order_of_addresses,
                    findings::pages_join_without_gap_or_overlap,
                    findings::findings_are_filtered_by_campaign_and_verdict,
                    findings::a_finding_is_found_by_its_id,
                    findings::unproven_endpoints_are_repeated_once_and_sorted,
                    findings::addresses_that_say_nothing_on_any_port_are_counted,
                    revisits::whoever_puts_us_off_is_visited_again_until_it_was_often_enough,
                    revisits::an_answer_ends_the_waiting,
                    revisits::what_is_due_is_gathered_while_there_is_other_work,
                    revisits::a_shard_is_of_one_vantage_point,
                    revisits::an_endpoint_that_is_open_by_then_is_left_out,
                    revisits::only_a_running_campaign_visits_again,
                    revisits::revisits_count_as_no_targets,
                    revisits::an_endpoint_gets_no_more_visits_than_its_campaign_allows,
                    revisits::endpoints_join_a_revisit_that_no_worker_has,
                    revisits::a_revisit_waits_for_few_blocks,
                    confirmation::what_is_open_is_visited_again_and_confirmed,
                    confirmation::what_is_open_once_only_is_not_called_open,
                    confirmation::another_vantage_point_is_asked_too_if_there_is_one,
                    confirmation::whoever_puts_us_off_then_is_asked_in_the_same_round,
                    confirmation::a_round_that_another_vantage_point_made_is_over,
                    confirmation::a_report_from_elsewhere_plans_no_round_twice,
                    confirmation::a_mail_after_the_end_is_to_be_confirmed_too,
                    confirmation::a_mail_that_comes_a_month_later_proves_nothing,
                    exclusions::leases_carry_the_epoch_of_what_is_excluded,
                    exclusions::an_exclusion_holds_for_its_tenant_or_for_all,
                    exclusions::an_exclusion_ends_when_its_time_is_over,
                    exclusions::what_is_excluded_is_not_visited_again,
                    orders::a_lease_of_an_earlier_authorization_is_not_renewed,
                    orders::a_plan_of_an_earlier_authorization_gets_no_lease,
                    orders::a_stop_holds_leases_revisits_and_starts_until_it_is_lifted,
                    orders::a_stop_of_one_tenant_holds_no_other,
                    orders::a_settling_campaign_does_not_go_on_while_it_is_stopped,
                    orders::a_campaign_ends_only_when_every_coordinator_refuses_it,
                    orders::a_coordinator_that_is_gone_is_not_asked,
                    orders::an_end_by_expiry_waits_for_the_stores_clock,
                    schedules::schedules_are_kept_by_name,
                    schedules::each_tenant_has_names_of_its_own,
                    schedules::a_schedule_that_cannot_be_read_hides_no_other,
                    schedules::a_schedule_is_looked_at_when_its_time_has_come,
                    schedules::a_time_is_run_once_however_many_ask,
                    schedules::a_campaign_does_not_start_while_the_one_before_goes_on,
                    schedules::a_time_that_is_left_out_says_why,
                    schedules::a_campaign_that_cannot_be_recorded_leaves_its_time_open,
                    schedules::a_schedule_that_is_paused_or_gone_starts_nothing,
                    records::an_authorization_id_cannot_be_used_for_another_text,
                    records::the_audit_log_is_kept_in_order,
                    records::concurrent_audit_entries_form_one_chain,
                    records::a_canary_of_the_same_address_takes_its_place,
                    records::workers_are_forgotten_after_a_week,
                    durability::what_was_stored_outlasts_the_store,
                    durability::times_are_kept_to_the_microsecond,
                }
            }
        };
        ($backend:ident: $($room:ident::$test:ident),* $(,)?) => {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let place = crate::support::$backend().await;
                    super::$room::$test(&place).await;
                }
            )*
        };
    }

    suite!(sqlite);
    suite!(postgres);
}
