-- Jobs: wishes, what is unfinished, one failed job, and the chart. Queued, running and retrying jobs live in Redis alone.

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
                select from syncdesk.item_leases l where l.item_id = i.id and syncdesk.lasts(l.expires_at))
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

-- ---------------------------------------------------------------- statistics

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
