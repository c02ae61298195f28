-- What the console's first page shows, and one job's way through everything. Read only: counts,
-- references and codes; the words are the API's.

-- Links that need somebody or are in trouble, worst first.
create function syncdesk.overview_needs(p_limit integer) returns jsonb
language sql stable set search_path = '' as $$
    select coalesce(jsonb_agg(to_jsonb(n) - 'rank' order by n.rank, n.since), '[]') from (
        select i.id, i.state, i.state_code as code, i.institution_name as institution, i.label, u.name as "user",
            syncdesk.iso(i.state_since) as since, syncdesk.iso(i.expires_at) as expires_at,
            (select count(*) from syncdesk.accounts a where a.item_id = i.id and a.closed_at is null) as accounts,
            case i.state when 'error' then 0 when 'needs_you' then 1 else 2 end as rank
        from syncdesk.items i join syncdesk.users u on u.id = i.user_id
        where i.removed_at is null and i.state in ('error', 'needs_you', 'expiring')
        order by rank, i.state_since limit p_limit
    ) n
$$;

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
create function public.syncdesk_overview(p_stale_s integer) returns jsonb
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

-- What happened lately that a person would want to know of, newest first.
create function public.syncdesk_activity(p_limit integer) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    select coalesce(jsonb_agg(jsonb_build_object('at', syncdesk.iso(a.at), 'kind', a.kind, 'target', a.target,
        'detail', a.detail) order by a.at desc), '[]')
    from (
        (select r.finished_at as at, 'run' as kind, 'item:' || r.item_id as target, jsonb_build_object(
            'state', r.state, 'institution', i.institution_name, 'added', r.added, 'modified', r.modified,
            'removed', r.removed, 'tagged', r.tagged, 'trigger', r.trigger, 'code', r.error ->> 'code') as detail
        from syncdesk.sync_runs r join syncdesk.items i on i.id = r.item_id
        where (r.state = 'done' and r.added + r.modified + r.removed > 0) or r.state = 'failed'
        order by r.finished_at desc nulls last limit p_limit)
        union all
        (select s.started_at, 'schedule', 'schedule:' || s.schedule_id, jsonb_build_object(
            'label', c.label, 'outcome', s.outcome, 'text', s.text)
        from syncdesk.schedule_runs s join syncdesk.schedule c on c.id = s.schedule_id
        where s.outcome <> 'running' and (s.outcome <> 'done' or s.by_person or c.id like 'backup%')
        order by s.id desc limit p_limit)
        union all
        (select u.at, 'audit', nullif(u.target, ''), jsonb_build_object('action', u.action, 'result', u.result)
        from syncdesk.audit u order by u.id desc limit p_limit)
        union all
        (select f.failed_at, 'failed', 'job:' || f.job_id, jsonb_build_object('institution', f.institution,
            'queue', f.queue, 'title', f.error ->> 'title', 'code', f.error ->> 'code')
        from syncdesk.failed_jobs f where f.state <> 'discarded' order by f.failed_at desc limit p_limit)
        order by at desc limit p_limit
    ) a
$$;
-- What failed latest, for the recent activity.
create index failed_jobs_latest on syncdesk.failed_jobs (failed_at desc) where state <> 'discarded';

-- Everything that carries one correlation id, in the order in which it happened.
create function public.syncdesk_job_thread(p_correlation text) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    with runs as (
        select * from syncdesk.sync_runs where correlation_id = p_correlation order by started_at limit 50
    )
    select coalesce(jsonb_agg(jsonb_build_object('at', syncdesk.iso(t.at), 'kind', t.kind, 'target', t.target,
        'detail', t.detail) order by t.at, t.rank), '[]')
    from (
        (select b.received_at as at, 0 as rank, 'webhook' as kind, 'webhook:' || b.id as target, jsonb_build_object(
            'type', b.webhook_type, 'code', b.webhook_code, 'state', b.state, 'verified_by', b.verified_by) as detail
        from syncdesk.inbox b where b.correlation_id = p_correlation order by b.id limit 20)
        union all
        select r.started_at, 1, 'run_started', 'run:' || r.id, jsonb_build_object(
            'trigger', r.trigger, 'replay', r.replay, 'restarts', r.restarts) from runs r
        union all
        select r.finished_at, 2, 'run_' || r.state, 'run:' || r.id, jsonb_build_object(
            'pages', r.pages, 'added', r.added, 'modified', r.modified, 'removed', r.removed, 'skipped', r.skipped,
            'code', r.error ->> 'code', 'timing', r.timing) from runs r where r.finished_at is not null
        union all
        (select m.created_at, 3, 'match', 'match:' || m.id, jsonb_build_object('state', m.state)
        from syncdesk.matches m where m.run_id in (select id from runs) order by m.created_at limit 50)
        union all
        (select o.created_at, 4, 'notice', 'outbox:' || o.id, jsonb_build_object('kind', o.kind)
        from syncdesk.outbox o where o.correlation_id = p_correlation order by o.id limit 20)
        union all
        (select o.sent_at, 5, 'notice_sent', 'outbox:' || o.id, jsonb_build_object('kind', o.kind)
        from syncdesk.outbox o where o.correlation_id = p_correlation and o.sent_at is not null order by o.id limit 20)
        union all
        (select u.at, 6, 'action', nullif(u.target, ''), jsonb_build_object('action', u.action, 'result', u.result)
        from syncdesk.audit u where u.correlation_id = p_correlation order by u.id limit 20)
    ) t
$$;
