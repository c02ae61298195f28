-- Bulk actions, second part: what a step does. One step is one transaction of whichever process takes it.

-- What became of the jobs that were released, judged by what they were for: rows of the database, which a killed
-- worker cannot take along.
create function syncdesk.bulk_judge(e syncdesk.bulk_entries, out state text, out reason text)
language plpgsql stable set search_path = '' as $$
declare
    i syncdesk.items;
    w syncdesk.inbox;
    o syncdesk.outbox;
begin
    if e.error_code is not null then
        state := 'failed';
        reason := e.error_code;
    elsif e.queue = 'transactions' then
        select * into i from syncdesk.items where id = e.target::uuid;
        if not found or i.removed_at is not null then
            state := 'skipped';
            reason := 'The bank link was removed';
        elsif i.done >= e.wish then
            if i.last_success_at >= e.released_at or exists (select from syncdesk.sync_runs r
                    where r.item_id = i.id and r.state = 'done' and r.finished_at >= e.released_at) then
                state := 'done';
            else
                select coalesce(i.state_code, r.error ->> 'code', 'FAILED') into reason from syncdesk.sync_runs r
                    where r.item_id = i.id and r.finished_at >= e.released_at order by r.started_at desc limit 1;
                state := case when found then 'failed' else 'skipped' end;
                reason := coalesce(reason, 'It was cancelled');
            end if;
        end if;
    elsif e.queue = 'webhooks' then
        select * into w from syncdesk.inbox where id = e.target::bigint;
        if not found then
            state := 'skipped';
            reason := 'The webhook is no longer kept';
        elsif w.state = 'failed' then
            state := 'failed';
            reason := w.reason;
        elsif w.state <> 'received' then
            state := case when w.reason = 'cancelled' then 'skipped' else 'done' end;
            reason := case when w.reason = 'cancelled' then 'It was cancelled' end;
        end if;
    else
        select * into o from syncdesk.outbox where id = e.target::bigint;
        if not found then
            state := 'skipped';
            reason := 'The notification is no longer kept';
        elsif o.sent_at is not null then
            state := 'done';
        end if;
    end if;
    if state is null and e.released_at < clock_timestamp() - interval '1 day' then
        state := 'skipped';
        reason := 'No result within a day';
    end if;
    reason := coalesce(reason, '');
end $$;

-- Releases one job of a retry, or says why not: null, or the reason to leave it out.
create function syncdesk.bulk_retry(e syncdesk.bulk_entries, p_correlation text) returns text
language plpgsql set search_path = '' as $$
declare
    s text;
begin
    if e.target = '' then return 'Nothing is known that it could be tried again by'; end if;
    -- Groups before jobs before items: the order in which a failure is recorded.
    perform from syncdesk.failure_group_items where queue = e.queue and target = e.target order by fingerprint for update;
    if e.was_open and not exists (select from syncdesk.failure_group_items
            where fingerprint = e.fingerprint and queue = e.queue and target = e.target and open) then
        select state into s from syncdesk.failed_jobs where job_id = e.job_id;
        return case when s = 'retried' then 'It was retried meanwhile' else 'It went through meanwhile' end;
    end if;
    if e.job_id is not null then
        select state into s from syncdesk.failed_jobs where job_id = e.job_id for update;
        if s <> 'failed' then return format('It was %s meanwhile', s); end if;
    end if;
    if e.queue = 'transactions' then
        select syncdesk.bulk_hindrance(i) into s from syncdesk.items i where i.id = e.target::uuid;
        if not found then return 'The bank link was removed'; end if;
        if s is not null then return s; end if;
    end if;
    if not syncdesk.wish_again(e.queue, e.target, p_correlation) then
        return 'What it was for is done or gone';
    end if;
    if e.queue = 'transactions' then  -- many at a time do not go before webhooks
        update syncdesk.items set wanted_lane = 'medium' where id = e.target::uuid;
    end if;
    update syncdesk.failure_group_items set open = false, discarded = false
        where queue = e.queue and target = e.target and (open or discarded);
    update syncdesk.failed_jobs set state = 'retried', state_at = clock_timestamp()
        where state = 'failed' and (job_id = e.job_id
            or e.queue = 'transactions' and queue = 'transactions' and item_id = e.target::uuid);
    return null;
end $$;

-- Puts one failed job aside, or says why not.
create function syncdesk.bulk_discard(e syncdesk.bulk_entries) returns text
language plpgsql set search_path = '' as $$
declare
    s text;
begin
    if e.job_id is null and not exists (select from syncdesk.failure_group_items
            where fingerprint = e.fingerprint and queue = e.queue and target = e.target and open and not discarded
            for update) then
        return 'It went through meanwhile';
    end if;
    update syncdesk.failure_group_items set discarded = true
        where fingerprint = e.fingerprint and queue = e.queue and target = e.target and open and not discarded
            and (e.job_id is null or exists (select from syncdesk.failed_jobs where job_id = e.job_id and state = 'failed'));
    if e.job_id is null then return null; end if;
    select state into s from syncdesk.failed_jobs where job_id = e.job_id for update;
    if not found then return 'Its record is no longer kept'; end if;
    if s <> 'failed' then return format('It was %s meanwhile', s); end if;
    update syncdesk.failed_jobs set state = 'discarded', state_at = clock_timestamp() where job_id = e.job_id;
    return null;
end $$;

-- How many jobs of a queue may be released now; `syncdesk.bulk_paced` takes them. A quarter of a second's worth at most
-- is owed, so that a second never sees many more than its share.
create function syncdesk.bulk_room(p_queue text, p_per_second integer) returns integer
language plpgsql set search_path = '' as $$
declare
    due timestamptz;
begin
    insert into syncdesk.bulk_pace (queue, next_at) values (p_queue, '-infinity') on conflict (queue) do nothing;
    -- Owed ahead for a second at most; more is of a clock that was ahead.
    update syncdesk.bulk_pace set next_at = least(next_at, clock_timestamp() + interval '1 second')
        where queue = p_queue returning next_at into due;
    return greatest(0, ceil(extract(epoch from clock_timestamp()
        - greatest(due, clock_timestamp() - interval '250 milliseconds')) * p_per_second))::integer;
end $$;
create function syncdesk.bulk_paced(p_queue text, p_per_second integer, p_count integer) returns void
language sql set search_path = '' as $$
    update syncdesk.bulk_pace set next_at = greatest(next_at, clock_timestamp() - interval '250 milliseconds')
        + p_count * interval '1 second' / p_per_second where queue = p_queue and p_count > 0
$$;

-- Releases what the pace, the canary and the work in flight allow. Answers what to hint at or move.
create function syncdesk.bulk_release(b syncdesk.bulks, out rows jsonb, out released integer, out done integer,
    out skipped integer)
language plpgsql set search_path = '' as $$
declare
    q text;
    e syncdesk.bulk_entries;
    room integer;
    taken integer;
    why text;
    wish_ bigint;
begin
    rows := '[]';
    released := 0;
    done := 0;
    skipped := 0;
    foreach q in array array['notifications', 'transactions', 'webhooks'] loop
        continue when not exists (select from syncdesk.bulk_entries
            where bulk_id = b.id and state = 'waiting' and queue = q and (b.state = 'running' or canary));
        if b.verb = 'retry' then
            -- No more in flight than ten seconds' worth, so that a queue that stands still holds the rest back.
            room := least(syncdesk.bulk_room(q, b.per_second), greatest(20, 10 * b.per_second) - b.released - released);
        else
            room := 1000;
        end if;
        taken := 0;
        for e in select * from syncdesk.bulk_entries where bulk_id = b.id and state = 'waiting' and queue = q
                and (b.state = 'running' or canary) order by n limit greatest(room, 0) + 200 loop
            exit when taken >= room;
            why := case b.verb when 'retry' then syncdesk.bulk_retry(e, b.correlation_id)
                when 'discard' then syncdesk.bulk_discard(e) end;
            if why is not null then
                update syncdesk.bulk_entries set state = 'skipped', reason = why where bulk_id = b.id and n = e.n;
                skipped := skipped + 1;
            elsif b.verb = 'discard' then
                update syncdesk.bulk_entries set state = 'done' where bulk_id = b.id and n = e.n;
                done := done + 1;
                taken := taken + 1;
            else
                wish_ := case when q = 'transactions' and b.verb = 'retry' then
                    (select wanted from syncdesk.items where id = e.target::uuid) end;
                update syncdesk.bulk_entries set state = 'released', released_at = clock_timestamp(), wish = wish_
                    where bulk_id = b.id and n = e.n;
                released := released + 1;
                taken := taken + 1;
                rows := rows || syncdesk.bulk_row(b, e);
            end if;
        end loop;
        if b.verb = 'retry' then perform syncdesk.bulk_paced(q, b.per_second, taken); end if;
    end loop;
end $$;

create function syncdesk.bulk_row(b syncdesk.bulks, e syncdesk.bulk_entries) returns jsonb
language sql stable set search_path = '' as $$
    select jsonb_build_object('bulk', b.id, 'n', e.n, 'verb', b.verb, 'lane', b.lane, 'queue', e.queue,
        'target', e.target, 'job_id', e.job_id, 'institution', e.institution, 'correlation', b.correlation_id,
        'user_id', case e.queue
            when 'transactions' then (select user_id from syncdesk.items where id::text = e.target)
            when 'webhooks' then (select user_id from syncdesk.inbox where id::text = e.target)
            else (select user_id from syncdesk.outbox where id::text = e.target) end)
$$;

-- After the canaries' end: go on, stop, or try another one where a canary was left out.
create function syncdesk.bulk_after_canary(b syncdesk.bulks, out state text, out note text)
language plpgsql set search_path = '' as $$
declare
    worst syncdesk.bulk_entries;
begin
    state := b.state;
    note := '';
    select * into worst from syncdesk.bulk_entries e where e.bulk_id = b.id and e.canary and e.state = 'failed'
        order by n limit 1;
    if found then
        state := 'stopped';
        note := format('The first job%s failed again (%s), so the rest was not started.',
            coalesce(' of ' || nullif(worst.institution, ''), ''), worst.reason);
    elsif not exists (select from syncdesk.bulk_entries e where e.bulk_id = b.id and e.canary
            and e.state in ('waiting', 'released')) then
        update syncdesk.bulk_entries e set canary = true from (
            select min(w.n) as n from syncdesk.bulk_entries w where w.bulk_id = b.id and w.state = 'waiting'
                and not exists (select from syncdesk.bulk_entries c where c.bulk_id = b.id and c.canary
                    and c.fingerprint = w.fingerprint and c.state = 'done')
            group by w.fingerprint) next
        where e.bulk_id = b.id and e.n = next.n;
        if not found then state := 'running'; end if;
    end if;
end $$;

-- One step of the bulk action that waited longest for one, if any is due: counts what ended, releases what may go.
-- Answers {"rows": to hint at or move, "changed": ids, "active": how many are not finished}.
create function public.syncdesk_bulk_step(p_only text default null) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '15s' as $$
declare
    b syncdesk.bulks;
    rows_ jsonb := '[]';
    changed jsonb := '[]';
    before_ syncdesk.bulks;
    r record;
begin
    for b in select * from syncdesk.bulks
            where (state in ('held', 'canary', 'running') or state = 'stopped' and released > 0)
            and release_at <= clock_timestamp() and (p_only is null or id = p_only::uuid)
            order by stepped_at limit 1 for update skip locked loop
        before_ := b;
        if b.state = 'held' then b.state := case when b.canary then 'canary' else 'running' end; end if;
        if b.verb = 'retry' and b.released > 0 then
            for r in
                update syncdesk.bulk_entries e set state = j.state, reason = j.reason from (
                    select x.n, (syncdesk.bulk_judge(x)).* from syncdesk.bulk_entries x
                    where x.bulk_id = b.id and x.state = 'released') j
                where e.bulk_id = b.id and e.n = j.n and j.state is not null returning e.state
            loop
                b.released := b.released - 1;
                b.done := b.done + (r.state = 'done')::integer;
                b.skipped := b.skipped + (r.state = 'skipped')::integer;
                b.failed := b.failed + (r.state = 'failed')::integer;
            end loop;
        end if;
        if b.state = 'canary' then
            select * into r from syncdesk.bulk_after_canary(b);
            b.state := r.state;
            b.note := r.note;
        end if;
        if b.state in ('canary', 'running') then
            select * into r from syncdesk.bulk_release(b);
            b.released := b.released + r.released;
            b.done := b.done + r.done;
            b.skipped := b.skipped + r.skipped;
            rows_ := r.rows;
        end if;
        if b.verb = 'move' then rows_ := rows_ || syncdesk.bulk_unmoved(b); end if;
        if b.done + b.skipped + b.failed >= b.total then
            b.state := 'done';
            b.finished_at := clock_timestamp();
        end if;
        update syncdesk.bulks set state = b.state, released = b.released, done = b.done, skipped = b.skipped,
            failed = b.failed, note = b.note, finished_at = b.finished_at, stepped_at = clock_timestamp()
            where id = b.id;
        if b is distinct from before_ then changed := changed || to_jsonb(b.id); end if;
        if b.state in ('done', 'stopped') and b.state <> before_.state then perform syncdesk.bulk_told(b); end if;
    end loop;
    return jsonb_build_object('rows', rows_, 'changed', changed, 'active',
        (select count(*) from syncdesk.bulks
            where state in ('held', 'canary', 'running') or state = 'stopped' and released > 0));
end $$;

-- Moves that were handed out and never reported: the process that did them may have died. Doing one twice is harmless.
create function syncdesk.bulk_unmoved(b syncdesk.bulks) returns jsonb
language sql stable set search_path = '' as $$
    select coalesce(jsonb_agg(syncdesk.bulk_row(b, e)), '[]') from (
        select * from syncdesk.bulk_entries where bulk_id = b.id and state = 'released'
            and released_at < clock_timestamp() - interval '5 seconds' order by n limit 1000) e
$$;

-- The audit trail's line of an end that the engine brought about.
create function syncdesk.bulk_told(b syncdesk.bulks) returns void
language sql set search_path = '' as $$
    insert into syncdesk.audit (who, action, target, result, correlation_id) values (b.who, 'bulk.' || b.state,
        'bulk:' || b.id, format('%s: %s of %s done, %s skipped, %s failed.%s', initcap(b.verb), b.done, b.total,
        b.skipped, b.failed, coalesce(' ' || nullif(b.note, ''), '')), b.correlation_id)
$$;

-- What came of the rows of a step: [{bulk, n, job}] of hints, [{bulk, n, state, reason}] of moves.
create function public.syncdesk_bulk_report(p_rows jsonb) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    r jsonb;
    e syncdesk.bulk_entries;
begin
    perform from syncdesk.bulks where id in (select (x ->> 'bulk')::uuid from jsonb_array_elements(p_rows) x)
        order by id for update;
    for r in select x from jsonb_array_elements(p_rows) x loop
        if r ? 'job' then
            update syncdesk.bulk_entries set new_job = r ->> 'job'
                where bulk_id = (r ->> 'bulk')::uuid and n = (r ->> 'n')::integer returning * into e;
            update syncdesk.failed_jobs set retried_as = r ->> 'job'
                where job_id = e.job_id and state = 'retried' and retried_as is null;
        else
            update syncdesk.bulk_entries set state = r ->> 'state', reason = coalesce(r ->> 'reason', '')
                where bulk_id = (r ->> 'bulk')::uuid and n = (r ->> 'n')::integer and state = 'released' returning * into e;
            continue when not found;
            update syncdesk.bulks set released = released - 1, done = done + (e.state = 'done')::integer,
                skipped = skipped + (e.state <> 'done')::integer where id = e.bulk_id;
            -- After a wipe of Redis the reconciler queues it in the lane that it was moved to.
            if e.state = 'done' and e.queue = 'transactions' then
                update syncdesk.items set wanted_lane = (select lane from syncdesk.bulks where id = e.bulk_id)
                    where id = e.target::uuid and wanted > items.done;
            end if;
        end if;
    end loop;
    return '{}';
end $$;
