-- The console's first page by kept counters; muted causes need nobody.

-- The five causes with most failed jobs.
create function syncdesk.overview_groups() returns jsonb
language sql stable set search_path = '' as $$
    select coalesce(jsonb_agg(g), '[]') from (
        select fg.fingerprint, fg.code, fg.kind, fg.queue, fg.samples -> 0 -> 'error' as error, t.n as open_jobs,
            (select count(*) from syncdesk.failure_group_banks b where b.fingerprint = fg.fingerprint) as banks,
            (select min(b.institution) from syncdesk.failure_group_banks b
                where b.fingerprint = fg.fingerprint) as institution,
            syncdesk.iso(fg.first_seen) as first_seen, syncdesk.iso(fg.last_seen) as last_seen
        from (select key, sum(n) as n from syncdesk.tallies where kind = 'group' group by key having sum(n) > 0) t
        join syncdesk.failure_groups fg on fg.fingerprint = t.key
        where fg.muted_until is null order by t.n desc, fg.last_seen desc limit 5) g
$$;

-- p_stale_s: a link whose last success is older than this is behind.
create or replace function public.syncdesk_overview(p_stale_s integer) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    select jsonb_build_object(
        'items', i.all_, 'fresh', i.fresh, 'paused', i.paused, 'first_data', i.first_data, 'trouble', i.trouble,
        'needs_total', i.needs, 'oldest_s', i.oldest_s, 'transactions', i.transactions,
        'needs', syncdesk.overview_needs(20),
        'queues', public.syncdesk_queue_stats(),
        'suggestions', (select count(*) from syncdesk.matches where state = 'suggested'),
        'bills', (select count(*) from syncdesk.bills where archived_at is null),
        'groups', syncdesk.overview_groups(),
        -- From a webhook's arrival to its rows being visible, the median of the latest.
        'update_ms', (select percentile_cont(0.5) within group (order by ms)::numeric(12, 1) from (
            select extract(epoch from r.finished_at - b.received_at) * 1000 as ms
            from syncdesk.sync_runs r join syncdesk.inbox b on b.correlation_id = r.correlation_id
            where r.state = 'done' and r.trigger = 'webhook' and b.verified_by in ('jwt', 'hmac')
                and r.finished_at > now() - interval '24 hours' and b.received_at > now() - interval '25 hours'
            order by r.finished_at desc limit 100) latest),
        'last_webhook_at', (select syncdesk.iso(received_at) from syncdesk.inbox where state <> 'refused'
            and verified_by in ('jwt', 'hmac') order by id desc limit 1),
        'refused_1h', (select count(*) from syncdesk.inbox where state = 'refused'
            and received_at > now() - interval '1 hour'),
        'unannounced', syncdesk.unannounced(),
        'schedule', (select jsonb_build_object('jobs', count(*), 'next_run_at', syncdesk.iso(min(next_run_at)),
            'next_backup_at', syncdesk.iso(min(next_run_at) filter (where id like 'backup%')))
            from syncdesk.schedule where paused_at is null),
        'install_trouble', (select value from syncdesk.settings where key = 'install_trouble'),
        'engine_pause', (select value from syncdesk.settings where key = 'engine_pause'),
        'server_version', current_setting('server_version'))
    from (
        select count(*) as all_, count(*) filter (where paused_at is not null) as paused,
            count(*) filter (where paused_at is null and state <> 'first_data'
                and last_success_at > now() - p_stale_s * interval '1 second') as fresh,
            count(*) filter (where state = 'first_data') as first_data,
            count(*) filter (where state in ('error', 'bank_trouble')) as trouble,
            count(*) filter (where state in ('error', 'needs_you', 'expiring')) as needs,
            coalesce(sum(transactions), 0) as transactions,
            extract(epoch from now() - min(last_success_at) filter (where paused_at is null))::integer as oldest_s
        from syncdesk.items where removed_at is null
    ) i
$$;

-- What failed latest, for the recent activity.
create index failed_jobs_latest on syncdesk.failed_jobs (failed_at desc) where state <> 'discarded';
