-- Failures at scale: counters that are kept instead of counted, groups that can be muted, lists that are one index scan
-- a page however many jobs failed.

-- ---------------------------------------------------------------- counters

-- Counted by adding rows that say by how much a count changed, in the transaction that changed it: nobody waits for a
-- counter's row, and the sum is right in every snapshot. `syncdesk_tallies_fold` keeps them few.
--   failed, discarded, retried: jobs by queue; group: failed jobs by fingerprint; open: a group's targets that a
--   retry would reach, by fingerprint.
create table syncdesk.tallies (
    kind text not null,
    key  text not null,
    n    bigint not null
);
create index tallies_key on syncdesk.tallies (kind, key) include (n);

create function syncdesk.tally(p_kind text, p_key text) returns bigint
language sql stable set search_path = '' as $$
    select coalesce(sum(n), 0)::bigint from syncdesk.tallies where kind = p_kind and key = p_key
$$;

create function syncdesk.tally_jobs() returns trigger
language plpgsql set search_path = '' as $$
begin
    if tg_op = 'TRUNCATE' then
        delete from syncdesk.tallies where kind in ('failed', 'discarded', 'retried', 'group');
    elsif tg_op = 'INSERT' then
        insert into syncdesk.tallies (kind, key, n)
        select state, queue, count(*) from new_rows group by 1, 2
        union all select 'group', fingerprint, count(*) from new_rows where state = 'failed' group by 2;
    elsif tg_op = 'DELETE' then
        insert into syncdesk.tallies (kind, key, n)
        select state, queue, -count(*) from old_rows group by 1, 2
        union all select 'group', fingerprint, -count(*) from old_rows where state = 'failed' group by 2;
    else
        insert into syncdesk.tallies (kind, key, n)
        select kind, key, sum(n) from (
            select state, queue, -1 from old_rows union all select state, queue, 1 from new_rows
            union all select 'group', fingerprint, -1 from old_rows where state = 'failed'
            union all select 'group', fingerprint, 1 from new_rows where state = 'failed'
        ) t (kind, key, n) group by 1, 2 having sum(n) <> 0;
    end if;
    return null;
end $$;

create function syncdesk.tally_targets() returns trigger
language plpgsql set search_path = '' as $$
begin
    if tg_op = 'TRUNCATE' then
        delete from syncdesk.tallies where kind = 'open';
    elsif tg_op = 'INSERT' then
        insert into syncdesk.tallies (kind, key, n)
        select 'open', fingerprint, count(*) from new_rows where open and not discarded group by 2;
    elsif tg_op = 'DELETE' then
        insert into syncdesk.tallies (kind, key, n)
        select 'open', fingerprint, -count(*) from old_rows where open and not discarded group by 2;
    else
        insert into syncdesk.tallies (kind, key, n)
        select 'open', fingerprint, sum(n) from (
            select fingerprint, -1 from old_rows where open and not discarded
            union all select fingerprint, 1 from new_rows where open and not discarded
        ) t (fingerprint, n) group by 2 having sum(n) <> 0;
    end if;
    return null;
end $$;

create trigger tally_jobs_insert after insert on syncdesk.failed_jobs
    referencing new table as new_rows for each statement execute function syncdesk.tally_jobs();
create trigger tally_jobs_update after update on syncdesk.failed_jobs
    referencing old table as old_rows new table as new_rows for each statement execute function syncdesk.tally_jobs();
create trigger tally_jobs_delete after delete on syncdesk.failed_jobs
    referencing old table as old_rows for each statement execute function syncdesk.tally_jobs();
create trigger tally_jobs_truncate after truncate on syncdesk.failed_jobs
    for each statement execute function syncdesk.tally_jobs();
create trigger tally_targets_insert after insert on syncdesk.failure_group_items
    referencing new table as new_rows for each statement execute function syncdesk.tally_targets();
create trigger tally_targets_update after update on syncdesk.failure_group_items
    referencing old table as old_rows new table as new_rows for each statement execute function syncdesk.tally_targets();
create trigger tally_targets_delete after delete on syncdesk.failure_group_items
    referencing old table as old_rows for each statement execute function syncdesk.tally_targets();
create trigger tally_targets_truncate after truncate on syncdesk.failure_group_items
    for each statement execute function syncdesk.tally_targets();

-- Makes one row of many. Two at once do not count twice: a row is deleted once.
create function public.syncdesk_tallies_fold() returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '15s' as $$
declare
    folded integer;
begin
    with many as (
        select kind, key from syncdesk.tallies group by kind, key having count(*) > 1 limit 2000
    ), gone as (
        delete from syncdesk.tallies t using many m where t.kind = m.kind and t.key = m.key returning t.*
    ), sums as (
        insert into syncdesk.tallies (kind, key, n)
        select kind, key, sum(n) from gone group by kind, key having sum(n) <> 0 returning 1
    )
    select count(*) into folded from gone;
    return jsonb_build_object('folded', folded);
end $$;

-- Which banks a group hit, so that they are counted in an index.
create table syncdesk.failure_group_banks (
    fingerprint text not null references syncdesk.failure_groups (fingerprint) on delete cascade,
    institution text not null,
    primary key (fingerprint, institution)
);

-- ---------------------------------------------------------------- failures

-- Records a job that failed for good, once however often it is called. A failure ends a mute that it outgrows, tells a
-- bulk action that released its job, and trims by counters.
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
    muted bigint;
    ended boolean := false;  -- a mute, by this failure
    surplus bigint;
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
        ) newest) returning g.muted_until, g.count > g.muted_until into muted, ended;
    if ended then
        update syncdesk.failure_groups set muted_until = null where fingerprint = p_fingerprint;
        muted := null;
    end if;
    if coalesce(p_institution, '') <> '' then
        insert into syncdesk.failure_group_banks (fingerprint, institution) values (p_fingerprint, p_institution)
            on conflict do nothing;
    end if;
    insert into syncdesk.failure_group_hours as h (fingerprint, hour, count)
    values (p_fingerprint, date_trunc('hour', clock_timestamp(), 'UTC'), 1)
    on conflict (fingerprint, hour) do update set count = h.count + 1 returning h.count into this_hour;
    -- One notice an hour and cause, however many jobs meet it; none about notices, nor where the state that the bank
    -- link or the install entered is told already.
    if (this_hour = 1 or coalesce(ended, false)) and muted is null and p_queue <> 'notifications'
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
        on conflict (fingerprint, queue, target) do update set open = true, discarded = false,
            last_seen = excluded.last_seen;
        update syncdesk.bulk_entries set error_code = coalesce(p_error ->> 'code', 'FAILED')
            where queue = p_queue and target = p_target and state = 'released';
    end if;

    if item is not null then
        perform syncdesk.settle(item, p_job_id);
    elsif p_queue = 'webhooks' and p_target <> '' then
        update syncdesk.inbox set state = 'failed', reason = p_error ->> 'code', attempts = jsonb_array_length(p_attempts)
            where id = p_target::bigint and state = 'received';
    end if;

    surplus := syncdesk.tally('failed', p_queue) - p_keep;
    if surplus > 0 then
        delete from syncdesk.failed_jobs where job_id in (
            select job_id from syncdesk.failed_jobs where queue = p_queue and state = 'failed'
            order by failed_at, job_id limit surplus for update skip locked);
    end if;
    surplus := syncdesk.tally('discarded', p_queue) + syncdesk.tally('retried', p_queue) - p_keep;
    if surplus > 0 then
        delete from syncdesk.failed_jobs where job_id in (
            select job_id from syncdesk.failed_jobs where queue = p_queue and state <> 'failed'
            order by failed_at, job_id limit surplus for update skip locked);
    end if;
    return jsonb_build_object('recorded', true, 'outbox', outbox_);
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
    -- Groups before jobs before items: the order in which a failure is recorded and a bulk action releases.
    select * into f from syncdesk.failed_jobs where job_id = p_job_id;
    target_ := syncdesk.failed_target(f);
    perform from syncdesk.failure_group_items where queue = f.queue and target = target_ order by fingerprint for update;
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
    if p_state = 'retried' then
        if target_ <> '' and not syncdesk.wish_again(f.queue, target_, f.correlation_id) then
            raise exception using errcode = 'SD409', message = 'What this job was for is done or gone.';
        end if;
        update syncdesk.failure_group_items set open = false, discarded = false
            where queue = f.queue and target = target_;
    else
        update syncdesk.failure_group_items set discarded = p_state = 'discarded'
            where fingerprint = f.fingerprint and queue = f.queue and target = target_ and open
                and not exists (select from syncdesk.failed_jobs o where o.fingerprint = f.fingerprint
                    and o.state = 'failed' and o.job_id <> f.job_id and syncdesk.failed_target(o) = target_);
    end if;
    update syncdesk.failed_jobs set state = p_state, state_at = clock_timestamp(),
        retried_as = coalesce(p_retried_as, retried_as) where job_id = p_job_id;
    return jsonb_build_object('job_id', f.job_id, 'queue', f.queue, 'actor', f.actor, 'target', target_,
        'user_id', f.user_id, 'institution', f.institution, 'correlation', f.correlation_id,
        'arguments', f.arguments);
end $$;

-- ---------------------------------------------------------------- lists

create index failure_groups_seen on syncdesk.failure_groups (last_seen desc);

-- State: failed or discarded. Search looks at ids, codes and institutions. Only what is asked for is in the statement,
-- so that the plan is that of the question.
create function public.syncdesk_jobs_failed_list(
    p_state text default 'failed', p_queue text default null, p_q text default null, p_group text default null,
    p_after text default null, p_limit integer default 50
) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    found_ syncdesk.failed_jobs[];
    last_ syncdesk.failed_jobs;
begin
    execute format('select array(select f from syncdesk.failed_jobs f where f.state = $1 %s %s %s %s '
            'order by f.failed_at desc, f.job_id desc limit $6 + 1)',
        case when p_queue is not null then 'and f.queue = $2' end,
        case when coalesce(p_q, '') <> '' then 'and syncdesk.failed_fits(f, $3)' end,
        case when p_group is not null then 'and f.fingerprint = $4' end,
        case when p_after is not null then
            'and (f.failed_at, f.job_id) < (split_part($5, ''|'', 1)::timestamptz, split_part($5, ''|'', 2))' end)
        into found_ using p_state, p_queue, p_q, p_group, p_after, p_limit;
    if cardinality(found_) > p_limit then last_ := found_[p_limit]; end if;
    return jsonb_build_object(
        'jobs', coalesce((select jsonb_agg(syncdesk.failed_job_json(found_[n]) order by n)
            from generate_series(1, least(p_limit, cardinality(found_))) n), '[]'),
        'counts', (select jsonb_build_object('failed', coalesce(sum(n) filter (where kind = 'failed'), 0),
            'discarded', coalesce(sum(n) filter (where kind = 'discarded'), 0)) from syncdesk.tallies
            where kind in ('failed', 'discarded') and (p_queue is null or key = p_queue)),
        'next', case when last_.job_id is not null then last_.failed_at::text || '|' || last_.job_id end);
end $$;

-- A page of the groups that were seen in the span, the muted ones last, else the newest failure first, with counts by hour
-- (24 of them, oldest first) and the newest error. A day on which hundreds of banks are down has many.
create function public.syncdesk_failure_groups_list(
    p_span text default '24h', p_after text default null, p_limit integer default 200
) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    most integer := least(greatest(p_limit, 1), 500);
begin
    return (with groups_ as materialized (
        select g.*, g.muted_until is not null as muted, (extract(epoch from g.last_seen) * 1000000)::bigint as seen
        from syncdesk.failure_groups g
        where (p_after is null
            or (g.muted_until is not null, -(extract(epoch from g.last_seen) * 1000000)::bigint, g.fingerprint)
                > (split_part(p_after, '|', 1)::boolean, -split_part(p_after, '|', 2)::bigint,
                    substring(p_after from '^[^|]*[|][^|]*[|](.*)$')))
            and g.last_seen > clock_timestamp() - (case p_span when '1h' then '1 hour' when '7d' then '7 days'
            else '24 hours' end)::interval
        order by muted, seen desc, g.fingerprint limit most
    ), counted as (
        select t.key, coalesce(sum(t.n) filter (where t.kind = 'open'), 0)::bigint as open_jobs,
            coalesce(sum(t.n) filter (where t.kind = 'group'), 0)::bigint as failed
        from syncdesk.tallies t join groups_ g on g.fingerprint = t.key where t.kind in ('open', 'group') group by t.key
    ), hours_ as (
        select g.fingerprint, jsonb_agg(coalesce(h.count, 0) order by s.hour) as hours
        from groups_ g cross join generate_series(date_trunc('hour', clock_timestamp(), 'UTC') - interval '23 hours',
            date_trunc('hour', clock_timestamp(), 'UTC'), interval '1 hour') s (hour)
        left join syncdesk.failure_group_hours h on h.fingerprint = g.fingerprint and h.hour = s.hour
        group by g.fingerprint
    ), banks_ as (
        select b.fingerprint, count(*) as banks from syncdesk.failure_group_banks b
        join groups_ g on g.fingerprint = b.fingerprint group by b.fingerprint
    )
    select jsonb_build_object('groups', coalesce(jsonb_agg(jsonb_build_object(
        'fingerprint', g.fingerprint, 'rule_version', g.rule_version, 'code', g.code, 'kind', g.kind,
        'queue', g.queue, 'title', g.samples -> 0 -> 'error' ->> 'title',
        'sentence', g.samples -> 0 -> 'error' ->> 'sentence', 'action', '', 'count', g.count,
        'open_jobs', coalesce(c.open_jobs, 0), 'failed', coalesce(c.failed, 0),
        'muted', g.muted, 'muted_until', g.muted_until, 'banks', coalesce(b.banks, 0),
        'first_seen', syncdesk.iso(g.first_seen), 'last_seen', syncdesk.iso(g.last_seen),
        'hours', h.hours) order by g.muted, g.seen desc, g.fingerprint), '[]'),
        'next', case when count(*) = most then (array_agg(concat_ws('|', g.muted, g.seen, g.fingerprint)
            order by g.muted desc, g.seen, g.fingerprint desc))[1] end)
    from groups_ g join hours_ h on h.fingerprint = g.fingerprint
    left join counted c on c.key = g.fingerprint left join banks_ b on b.fingerprint = g.fingerprint);
end $$;

-- The newest few errors of a group: they outlive the jobs' records.
create function public.syncdesk_failure_samples(p_fingerprint text) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    g syncdesk.failure_groups;
begin
    select * into g from syncdesk.failure_groups where fingerprint = p_fingerprint;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such group of failures.';
    end if;
    return jsonb_build_object('fingerprint', g.fingerprint, 'rule_version', g.rule_version, 'samples', g.samples);
end $$;

-- What a retry of the group would reach: every open target, also where the job's own record was trimmed.
create function public.syncdesk_failure_group_targets(p_fingerprint text, p_limit integer default 1000) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '10s' as $$
    select jsonb_build_object(
        'count', (select count(*) from syncdesk.failure_group_items t where t.fingerprint = p_fingerprint and t.open and not t.discarded),
        'targets', coalesce((select jsonb_agg(jsonb_build_object('queue', queue, 'target', target) order by last_seen)
            from (select queue, target, last_seen from syncdesk.failure_group_items
                where fingerprint = p_fingerprint and open and not discarded order by last_seen limit p_limit) t), '[]'))
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
    select count(*) into n from syncdesk.failure_group_items where fingerprint = p_fingerprint and open and not discarded;
    if n > p_expected then
        raise exception using errcode = 'SD409',
            message = format('The group grew to %s since you looked at it; nothing was retried.', n);
    end if;
    perform from syncdesk.failure_group_items where fingerprint = p_fingerprint and open and not discarded
        order by target for update;
    update syncdesk.failed_jobs set state = 'retried', state_at = clock_timestamp()
        where fingerprint = p_fingerprint and state = 'failed';
    for t in
        select g.queue, g.target, i.user_id, i.institution_name
        from syncdesk.failure_group_items g
        left join syncdesk.items i on g.queue = 'transactions' and i.id::text = g.target
        where g.fingerprint = p_fingerprint and g.open and not g.discarded order by g.target
    loop
        if syncdesk.wish_again(t.queue, t.target, p_correlation) then
            targets := targets || jsonb_build_object('queue', t.queue, 'target', t.target, 'user_id', t.user_id,
                'institution', t.institution_name);
        else
            skipped := skipped + 1;
        end if;
    end loop;
    update syncdesk.failure_group_items set open = false where fingerprint = p_fingerprint and open and not discarded;
    return jsonb_build_object('targets', targets, 'skipped', skipped);
end $$;

-- Quiet until it grows: a muted group alarms nobody and is in no badge. It ends by itself when as many failures came as
-- there were, or a hundred.
create function public.syncdesk_failure_group_mute(p_fingerprint text, p_muted boolean) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    g syncdesk.failure_groups;
begin
    update syncdesk.failure_groups set muted_until = case when p_muted then count + least(count, 100) end
        where fingerprint = p_fingerprint returning * into g;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such group of failures.';
    end if;
    return jsonb_build_object('muted_until', g.muted_until, 'count', g.count);
end $$;

-- Failed jobs of muted groups, by queue: what a badge leaves out.
create function syncdesk.muted_jobs(p_queue text) returns bigint
language sql stable set search_path = '' as $$
    select coalesce(sum(syncdesk.tally('group', fingerprint)), 0)::bigint
    from syncdesk.failure_groups where muted_until is not null and queue = p_queue
$$;
create index failure_groups_muted on syncdesk.failure_groups (queue) where muted_until is not null;

-- By queue: what Redis does not know of its status. High failure rate: one in five of at least ten in the last quarter
-- of an hour.
create function public.syncdesk_queue_stats() returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    select jsonb_object_agg(q.name, jsonb_build_object(
        'failed', syncdesk.tally('failed', q.name), 'muted', syncdesk.muted_jobs(q.name),
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
