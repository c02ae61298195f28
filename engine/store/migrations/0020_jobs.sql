-- Jobs: failures with their groups, statistics, and what is unfinished. Queued, running and
-- retrying jobs live in Redis alone.

-- ---------------------------------------------------------------- wishes

-- Raises the wish behind a job again, for a person's retry. False: there is nothing left to do it for.
create function syncdesk.wish_again(p_queue text, p_target text, p_correlation text) returns boolean
language plpgsql set search_path = '' as $$
begin
    if p_queue = 'transactions' then
        update syncdesk.items set wanted = greatest(wanted, done) + 1, wanted_at = clock_timestamp(),
            wanted_lane = 'high', wanted_trigger = 'retry', wanted_correlation = p_correlation
            where id = p_target::uuid and removed_at is null;
    elsif p_queue = 'webhooks' then
        update syncdesk.inbox set state = 'received', reason = null, processed_at = null
            where id = p_target::bigint and state in ('failed', 'received');
    else
        perform from syncdesk.outbox where id = p_target::bigint and sent_at is null;
    end if;
    return found;
end $$;

-- A person does not want a waiting job any more: its wish goes too, or the reconciler would bring it back.
create function public.syncdesk_wish_cancel(p_queue text, p_target text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    if p_queue = 'transactions' then
        update syncdesk.items set done = wanted where id = p_target::uuid;
    elsif p_queue = 'webhooks' then
        update syncdesk.inbox set state = 'processed', reason = 'cancelled', processed_at = clock_timestamp(),
                body = syncdesk.without_tokens(body)
            where id = p_target::bigint and state = 'received';
    else
        update syncdesk.outbox set sent_at = clock_timestamp() where id = p_target::bigint and sent_at is null;
    end if;
    return jsonb_build_object('cancelled', found);
end $$;

-- What the reconciler puts hints for, a page at a time by keys that only grow. An item whose job failed for good since
-- it was last asked for waits for the next trigger or a person's retry.
create function public.syncdesk_unfinished(p_after jsonb default '{}', p_limit integer default 500) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '10s' as $$
    with items_ as (
        select i.id, i.user_id, i.institution_name, i.wanted_lane, i.wanted_trigger, i.wanted_correlation
        from syncdesk.items i
        where i.wanted > i.done and i.removed_at is null and i.paused_at is null
            and i.id > coalesce((p_after ->> 'item')::uuid, '00000000-0000-0000-0000-000000000000')
            and not exists (
                select from syncdesk.item_leases l where l.item_id = i.id and l.expires_at > clock_timestamp())
            and not exists (
                select from syncdesk.failure_group_items g
                where g.queue = 'transactions' and g.target = i.id::text and g.open
                    and g.last_seen >= coalesce(i.wanted_at, '-infinity'))
        order by i.id limit p_limit
    ), inbox_ as (
        select b.id, b.user_id, b.correlation_id from syncdesk.inbox b
        where b.state = 'received' and b.id > coalesce((p_after ->> 'inbox')::bigint, 0)
        order by b.id limit p_limit
    ), outbox_ as (
        select o.id, o.user_id, o.correlation_id from syncdesk.outbox o
        where o.sent_at is null and o.id > coalesce((p_after ->> 'outbox')::bigint, 0)
            and not exists (
                select from syncdesk.failure_group_items g
                where g.queue = 'notifications' and g.target = o.id::text and g.open)
        order by o.id limit p_limit
    )
    select jsonb_build_object(
        'items', coalesce((select jsonb_agg(jsonb_build_object(
            'id', id, 'user_id', user_id, 'institution', institution_name, 'lane', wanted_lane,
            'trigger', coalesce(wanted_trigger, 'reconciler'), 'correlation', coalesce(wanted_correlation, ''))
            order by id) from items_), '[]'),
        'inbox', coalesce((select jsonb_agg(jsonb_build_object(
            'id', id, 'user_id', user_id, 'correlation', correlation_id) order by id) from inbox_), '[]'),
        'outbox', coalesce((select jsonb_agg(jsonb_build_object(
            'id', id, 'user_id', user_id, 'correlation', correlation_id) order by id) from outbox_), '[]'),
        'weights', case when p_after = '{}' then
            coalesce((select jsonb_object_agg(id, weight) from syncdesk.users where weight <> 1), '{}') end,
        'limits', case when p_after = '{}' then
            coalesce((select jsonb_object_agg(key, value) from syncdesk.settings where key like 'queue.%'), '{}') end)
$$;

-- ---------------------------------------------------------------- failures

-- Records a job that failed for good, once however often it is called.
create function public.syncdesk_job_failed(
    p_job_id text, p_queue text, p_actor text, p_lane text, p_trigger text, p_arguments jsonb, p_target text,
    p_user_id text, p_institution text, p_correlation text, p_fingerprint text, p_rule_version integer,
    p_error jsonb, p_attempts jsonb, p_queued_at text, p_keep integer, p_max_attempts integer default 4
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    item uuid;
    this_hour bigint;
    outbox_ bigint;
begin
    -- Jobs of any origin are recorded; only a sync's target is an item.
    if p_queue = 'transactions' and p_target ~ '^[0-9a-fA-F-]{36}$' then item := p_target::uuid; end if;
    insert into syncdesk.failed_jobs (job_id, queue, actor, lane, trigger, arguments, user_id, item_id, institution,
        correlation_id, fingerprint, rule_version, error, attempts, max_attempts, queued_at, failed_at)
    values (p_job_id, p_queue, p_actor, p_lane, p_trigger, p_arguments, p_user_id::uuid, item, p_institution,
        p_correlation, p_fingerprint, p_rule_version, p_error, p_attempts, p_max_attempts, p_queued_at::timestamptz,
        clock_timestamp())
    on conflict (job_id) do nothing;
    if not found then return jsonb_build_object('recorded', false); end if;

    insert into syncdesk.failure_groups as g (fingerprint, rule_version, code, kind, queue, count, first_seen,
        last_seen, samples)
    values (p_fingerprint, p_rule_version, p_error ->> 'code', p_error ->> 'kind', p_queue, 1, clock_timestamp(),
        clock_timestamp(), jsonb_build_array(jsonb_build_object('job_id', p_job_id, 'target', p_target,
        'at', syncdesk.iso(clock_timestamp()), 'error', p_error)))
    on conflict (fingerprint) do update set count = g.count + 1, last_seen = excluded.last_seen, samples = (
        select jsonb_agg(s order by n) from (
            select s, n from jsonb_array_elements(excluded.samples || g.samples) with ordinality e (s, n) where n <= 5
        ) newest);
    insert into syncdesk.failure_group_hours as h (fingerprint, hour, count)
    values (p_fingerprint, date_trunc('hour', clock_timestamp(), 'UTC'), 1)
    on conflict (fingerprint, hour) do update set count = h.count + 1 returning h.count into this_hour;
    -- One notice an hour and cause, however many jobs meet it; none about notices, nor where the state that the bank
    -- link or the install entered is told already.
    if this_hour = 1 and p_queue <> 'notifications'
            and not exists (select from syncdesk.items i where i.id = item and i.state in ('needs_you', 'error', 'removed'))
            and not exists (select from syncdesk.settings where key = 'install_trouble') then
        insert into syncdesk.outbox (kind, user_id, item_id, correlation_id, payload)
        values ('job_failed', p_user_id::uuid, item, p_correlation, jsonb_build_object('job_id', p_job_id,
            'queue', p_queue, 'code', p_error ->> 'code', 'title', p_error ->> 'title',
            'sentence', p_error ->> 'sentence', 'institution', p_institution)) returning id into outbox_;
    end if;
    if p_target <> '' then
        insert into syncdesk.failure_group_items (fingerprint, queue, target, open, last_seen)
        -- A trigger that came after the last start is not answered by this failure.
        values (p_fingerprint, p_queue, p_target, true, coalesce((select max(r.started_at) from syncdesk.sync_runs r
            where r.item_id = item and r.job_id = p_job_id), clock_timestamp()))
        on conflict (fingerprint, queue, target) do update set open = true, last_seen = excluded.last_seen;
    end if;

    if item is not null then
        perform syncdesk.settle(item, p_job_id);
    elsif p_queue = 'webhooks' and p_target <> '' then
        update syncdesk.inbox set state = 'failed', reason = p_error ->> 'code', attempts = jsonb_array_length(p_attempts)
            where id = p_target::bigint and state = 'received';
    end if;

    delete from syncdesk.failed_jobs where job_id in (
        select job_id from syncdesk.failed_jobs where queue = p_queue and state = 'failed'
        order by failed_at desc, job_id offset p_keep);
    delete from syncdesk.failed_jobs where job_id in (
        select job_id from syncdesk.failed_jobs where queue = p_queue and state <> 'failed'
        order by failed_at desc, job_id offset p_keep);
    return jsonb_build_object('recorded', true, 'outbox', outbox_);
end $$;

-- A failed job in the shape of the API's Job.
create function syncdesk.failed_job_json(f syncdesk.failed_jobs) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
    return jsonb_build_object(
        'id', f.job_id, 'queue', f.queue, 'actor', f.actor,
        'state', case f.state when 'failed' then 'failed' else 'discarded' end,
        'lane', f.lane, 'trigger', f.trigger, 'user_id', f.user_id, 'item_id', f.item_id,
        'institution', nullif(f.institution, ''),
        'label', case f.actor when 'sync_item' then 'Sync transactions' when 'process_webhook' then 'Process webhook'
            when 'deliver_notice' then 'Deliver notification' else f.actor end,
        'correlation_id', f.correlation_id, 'queued_at', syncdesk.iso(f.queued_at),
        'started_at', f.attempts -> -1 ->> 'started_at', 'finished_at', syncdesk.iso(f.failed_at), 'due_at', null,
        'attempts', jsonb_array_length(f.attempts), 'max_attempts', f.max_attempts,
        'worker', f.attempts -> -1 ->> 'worker',
        'error_code', f.error ->> 'code', 'error_title', f.error ->> 'title', 'group', f.fingerprint,
        'version', f.state || '.' || extract(epoch from f.state_at)::text);
end $$;

-- State: failed or discarded. Search looks at ids, codes and institutions.
create function public.syncdesk_jobs_failed_list(
    p_state text default 'failed', p_queue text default null, p_q text default null, p_group text default null,
    p_after text default null, p_limit integer default 50
) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '10s' as $$
    with rows_ as (
        select f, f.failed_at, f.job_id from syncdesk.failed_jobs f
        where f.state = p_state and (p_queue is null or f.queue = p_queue)
            and (p_group is null or f.fingerprint = p_group)
            and (coalesce(p_q, '') = '' or f.job_id like p_q || '%' or f.item_id::text = p_q
                or f.correlation_id = p_q or starts_with(lower(f.error ->> 'code'), lower(p_q))
                or strpos(lower(f.institution), lower(p_q)) > 0 or strpos(lower(f.error ->> 'title'), lower(p_q)) > 0)
            and (p_after is null or (f.failed_at, f.job_id) <
                (split_part(p_after, '|', 1)::timestamptz, split_part(p_after, '|', 2)))
        order by f.failed_at desc, f.job_id desc limit p_limit + 1
    ), page as (
        select * from rows_ order by failed_at desc, job_id desc limit p_limit
    )
    select jsonb_build_object(
        'jobs', coalesce((select jsonb_agg(syncdesk.failed_job_json(f) order by failed_at desc, job_id desc)
            from page), '[]'),
        'counts', (select jsonb_build_object('failed', count(*) filter (where state = 'failed'),
            'discarded', count(*) filter (where state = 'discarded')) from syncdesk.failed_jobs),
        'next', case when (select count(*) from rows_) > p_limit then
            (select failed_at::text || '|' || job_id from page order by failed_at, job_id limit 1) end)
$$;

create function public.syncdesk_job_failed_get(p_job_id text) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    f syncdesk.failed_jobs;
begin
    select * into f from syncdesk.failed_jobs where job_id = p_job_id;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such job.';
    end if;
    return jsonb_build_object('job', syncdesk.failed_job_json(f), 'timeline', f.attempts, 'arguments', f.arguments,
        'error', f.error, 'recorded_state', f.state, 'retried_as', f.retried_as);
end $$;

-- failed -> discarded, discarded -> failed, failed or discarded -> retried; then once more to note the new job's id.
create function public.syncdesk_jobs_failed_mark(
    p_job_id text, p_state text, p_retried_as text default null
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    f syncdesk.failed_jobs;
    target_ text;
begin
    select * into f from syncdesk.failed_jobs where job_id = p_job_id for update;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such failed job.';
    end if;
    if f.state = 'retried' and p_state = 'retried' and f.retried_as is null and p_retried_as is not null then
        update syncdesk.failed_jobs set retried_as = p_retried_as where job_id = p_job_id;
        return jsonb_build_object('job_id', f.job_id, 'retried_as', p_retried_as);
    elsif f.state = 'retried' and p_state = 'retried' then
        raise exception using errcode = 'SD409', message = 'This job was retried already.';
    elsif f.state = p_state or (f.state = 'retried') then
        raise exception using errcode = 'SD409', message = format('This job is %s already.', f.state);
    end if;
    target_ := coalesce(f.item_id::text, f.arguments ->> 'inbox_id', f.arguments ->> 'outbox_id', '');
    if p_state = 'retried' then
        if target_ <> '' and not syncdesk.wish_again(f.queue, target_, f.correlation_id) then
            raise exception using errcode = 'SD409', message = 'What this job was for is done or gone.';
        end if;
        update syncdesk.failure_group_items set open = false where queue = f.queue and target = target_;
    end if;
    update syncdesk.failed_jobs set state = p_state, state_at = clock_timestamp(),
        retried_as = coalesce(p_retried_as, retried_as) where job_id = p_job_id;
    return jsonb_build_object('job_id', f.job_id, 'queue', f.queue, 'actor', f.actor, 'target', target_,
        'user_id', f.user_id, 'institution', f.institution, 'correlation', f.correlation_id,
        'arguments', f.arguments);
end $$;

-- Every group that was seen in the span, with its counts by hour (24 of them, oldest first) and newest error.
create function public.syncdesk_failure_groups_list(p_span text default '24h') returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '10s' as $$
begin
    return (with groups_ as (
        select g.* from syncdesk.failure_groups g
        where g.last_seen > clock_timestamp() - (case p_span when '1h' then '1 hour' when '7d' then '7 days'
            else '24 hours' end)::interval
            and (g.muted_until is null or g.count > g.muted_until)
        order by g.last_seen desc limit 200
    )
    select jsonb_build_object('groups', coalesce(jsonb_agg(jsonb_build_object(
        'fingerprint', g.fingerprint, 'rule_version', g.rule_version, 'code', g.code, 'kind', g.kind,
        'queue', g.queue, 'title', g.samples -> 0 -> 'error' ->> 'title',
        'sentence', g.samples -> 0 -> 'error' ->> 'sentence', 'action', '', 'count', g.count,
        'open_jobs', (select count(*) from syncdesk.failure_group_items t
            where t.fingerprint = g.fingerprint and t.open),
        'banks', (select count(distinct i.institution_name) from syncdesk.failure_group_items t
            join syncdesk.items i on t.queue = 'transactions' and i.id::text = t.target
            where t.fingerprint = g.fingerprint),
        'first_seen', syncdesk.iso(g.first_seen), 'last_seen', syncdesk.iso(g.last_seen), 'samples', g.samples,
        'hours', (select jsonb_agg(coalesce(h.count, 0) order by s.hour)
            from generate_series(date_trunc('hour', clock_timestamp(), 'UTC') - interval '23 hours',
                date_trunc('hour', clock_timestamp(), 'UTC'), interval '1 hour') s (hour)
            left join syncdesk.failure_group_hours h on h.fingerprint = g.fingerprint and h.hour = s.hour))
        order by g.last_seen desc), '[]'))
    from groups_ g);
end $$;

-- What a retry of the group would reach: every open target, also where the job's own record was trimmed.
create function public.syncdesk_failure_group_targets(p_fingerprint text, p_limit integer default 1000) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '10s' as $$
    select jsonb_build_object(
        'count', (select count(*) from syncdesk.failure_group_items t where t.fingerprint = p_fingerprint and t.open),
        'targets', coalesce((select jsonb_agg(jsonb_build_object('queue', queue, 'target', target) order by last_seen)
            from (select queue, target, last_seen from syncdesk.failure_group_items
                where fingerprint = p_fingerprint and open order by last_seen limit p_limit) t), '[]'))
$$;

-- Retries a whole group, refused where it grew beyond what the person saw. Answers what to hint at.
create function public.syncdesk_failure_group_retry(
    p_fingerprint text, p_expected integer, p_correlation text
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
declare
    t record;
    n integer;
    skipped integer := 0;
    targets jsonb := '[]';
begin
    perform from syncdesk.failure_groups where fingerprint = p_fingerprint for update;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such group of failures.';
    end if;
    select count(*) into n from syncdesk.failure_group_items where fingerprint = p_fingerprint and open;
    if n > p_expected then
        raise exception using errcode = 'SD409',
            message = format('The group grew to %s since you looked at it; nothing was retried.', n);
    end if;
    for t in
        select g.queue, g.target, i.user_id, i.institution_name
        from syncdesk.failure_group_items g
        left join syncdesk.items i on g.queue = 'transactions' and i.id::text = g.target
        where g.fingerprint = p_fingerprint and g.open order by g.target
    loop
        if syncdesk.wish_again(t.queue, t.target, p_correlation) then
            targets := targets || jsonb_build_object('queue', t.queue, 'target', t.target, 'user_id', t.user_id,
                'institution', t.institution_name);
        else
            skipped := skipped + 1;
        end if;
    end loop;
    update syncdesk.failure_group_items set open = false where fingerprint = p_fingerprint and open;
    update syncdesk.failed_jobs set state = 'retried', state_at = clock_timestamp()
        where fingerprint = p_fingerprint and state = 'failed';
    return jsonb_build_object('targets', targets, 'skipped', skipped);
end $$;

-- ---------------------------------------------------------------- statistics

-- Adds a batch: [{queue, item_id, institution, user_id, done, failed, retried, run_ms, wait_ms, run_hist, done_targets}].
-- Targets that went through close what was open for them in the groups of failures.
create function public.syncdesk_job_stats_add(p_rows jsonb) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
begin
    insert into syncdesk.job_stats as s (hour, queue, item_id, institution, user_id, done, failed, retried, run_ms,
        wait_ms, run_hist)
    select date_trunc('hour', clock_timestamp(), 'UTC'), r ->> 'queue',
        coalesce((r ->> 'item_id')::uuid, '00000000-0000-0000-0000-000000000000'), coalesce(r ->> 'institution', ''),
        coalesce((r ->> 'user_id')::uuid, '00000000-0000-0000-0000-000000000000'), (r ->> 'done')::bigint,
        (r ->> 'failed')::bigint, (r ->> 'retried')::bigint, (r ->> 'run_ms')::bigint, (r ->> 'wait_ms')::bigint,
        array(select v::bigint from jsonb_array_elements_text(r -> 'run_hist') v)
    from jsonb_array_elements(p_rows) r order by 2, 3, 4, 5
    on conflict (hour, queue, item_id, institution, user_id) do update set done = s.done + excluded.done,
        failed = s.failed + excluded.failed, retried = s.retried + excluded.retried,
        run_ms = s.run_ms + excluded.run_ms, wait_ms = s.wait_ms + excluded.wait_ms,
        run_hist = array(select coalesce(a, 0) + coalesce(b, 0) from unnest(s.run_hist, excluded.run_hist) u (a, b));
    insert into syncdesk.job_minutes as m (minute, queue, done, failed)
    select date_trunc('minute', clock_timestamp(), 'UTC'), r ->> 'queue', sum((r ->> 'done')::integer),
        sum((r ->> 'failed')::integer)
    from jsonb_array_elements(p_rows) r group by 2 order by 2
    on conflict (minute, queue) do update set done = m.done + excluded.done, failed = m.failed + excluded.failed;
    update syncdesk.failure_group_items g set open = false
    from (select distinct r ->> 'queue' as queue, t as target from jsonb_array_elements(p_rows) r,
        jsonb_array_elements_text(coalesce(r -> 'done_targets', '[]')) t) d
    where g.queue = d.queue and g.target = d.target and g.open;
    return '{}';
end $$;

-- Done and failed jobs over a span, in the shape of the API's Chart. Slots before our first job are unknown.
create function public.syncdesk_job_chart(p_span text) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '10s' as $$
begin
    return (with shape as (
        select case p_span when '1h' then 60 when '7d' then 7200 else 1800 end as slot,
            case p_span when '1h' then 60 when '7d' then 84 else 48 end as slots
    ), times as (
        select to_timestamp((floor(extract(epoch from clock_timestamp()) / slot) - n) * slot) as at, slot
        from shape, generate_series(0, slots - 1) n
    ), counted as (
        select t.at, t.at + t.slot * interval '1 second' as ends, coalesce(sum(m.done), 0) as done, coalesce(sum(m.failed), 0) as failed
        from times t left join syncdesk.job_minutes m
            on m.minute >= t.at and m.minute < t.at + t.slot * interval '1 second'
        group by t.at, t.slot
    )
    select jsonb_build_object('span', p_span, 'slot_s', (select slot from shape), 'slots', jsonb_agg(jsonb_build_object(
        'at', syncdesk.iso(at), 'done', done, 'failed', failed,
        'known', ends > coalesce((select min(minute) from syncdesk.job_minutes), clock_timestamp()))
        order by at))
    from counted);
end $$;

-- By queue: what Redis does not know of its status. High failure rate: one in five of at least ten in the last quarter
-- of an hour.
create function public.syncdesk_queue_stats() returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    select jsonb_object_agg(q.name, jsonb_build_object(
        'failed', (select count(*) from syncdesk.failed_jobs f where f.queue = q.name and f.state = 'failed'),
        'done_24h', coalesce(d.done, 0), 'failed_24h', coalesce(d.failed, 0),
        'done_15m', coalesce(d.done_15m, 0), 'failed_15m', coalesce(d.failed_15m, 0),
        'high_failure_rate', coalesce(d.failed_15m, 0) >= 2 and coalesce(d.done_15m, 0) + d.failed_15m >= 10
            and d.failed_15m * 5 >= d.done_15m + d.failed_15m,
        'last_hour', (select jsonb_agg(coalesce(m.done + m.failed, 0) order by s.minute)
            from generate_series(date_trunc('minute', clock_timestamp()) - interval '59 minutes',
                date_trunc('minute', clock_timestamp()), interval '1 minute') s (minute)
            left join syncdesk.job_minutes m on m.queue = q.name and m.minute = s.minute)))
    from (values ('transactions'), ('webhooks'), ('notifications')) q (name)
    left join lateral (
        select sum(done) as done, sum(failed) as failed,
            sum(done) filter (where minute > clock_timestamp() - interval '15 minutes') as done_15m,
            sum(failed) filter (where minute > clock_timestamp() - interval '15 minutes') as failed_15m
        from syncdesk.job_minutes m
        where m.queue = q.name and m.minute > clock_timestamp() - interval '24 hours'
    ) d on true
$$;
