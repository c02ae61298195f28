-- A run that begins again from the start because the bank refused its cursor is a replay from then on: its commit
-- sweeps what the bank no longer has, and takes the bills' matches of these rows along (`apply_matches` asks the run).

drop function public.syncdesk_sync_abort(uuid);
create function public.syncdesk_sync_abort(p_run uuid, p_replay boolean default false) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
begin
    update syncdesk.sync_runs set pages = 0, added = 0, restarts = restarts + 1, replay = replay or p_replay
        where id = p_run and state = 'running';
    delete from syncdesk.stage where run_id = p_run;
    delete from syncdesk.skipped_rows where run_id = p_run;
    return '{}';
end $$;
