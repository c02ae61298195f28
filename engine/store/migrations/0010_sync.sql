-- One run of one item: claim, stage, commit, fail. Rows, history, cursor, matches and the run's
-- record change in one statement of one function; everything before it leaves no trace.

-- Times as every answer has them: ISO 8601, UTC, milliseconds.
create function syncdesk.iso(moment timestamptz) returns text
language sql stable as $$
    select to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- The small functions below have no settings of their own, so that they can be inlined.
-- What the bank says about a transaction, apart from what a person attached to it.
create type syncdesk.bank_row as (
    transaction_id text, account_id text, amount numeric, iso_currency_code text, unofficial_currency_code text,
    date date, authorized_date date, datetime timestamptz, authorized_datetime timestamptz, name text,
    merchant_name text, merchant_entity_id text, original_description text, payment_channel text,
    check_number text, pending boolean, pending_transaction_id text, category_primary text,
    category_detailed text, category_confidence text, category_version text, extra jsonb
);

-- A bank row as history keeps it: money as text, nulls left out.
create function syncdesk.bank_json(r syncdesk.bank_row) returns jsonb
language sql stable as $$
    select jsonb_strip_nulls(to_jsonb(r) || jsonb_build_object('amount', (r).amount::text))
$$;

create function syncdesk.bank_row_of(t syncdesk.transactions) returns syncdesk.bank_row
language sql stable as $$
    select row(t.transaction_id, t.account_id, t.amount, t.iso_currency_code, t.unofficial_currency_code, t.date,
        t.authorized_date, t.datetime, t.authorized_datetime, t.name, t.merchant_name, t.merchant_entity_id,
        t.original_description, t.payment_channel, t.check_number, t.pending, t.pending_transaction_id,
        t.category_primary, t.category_detailed, t.category_confidence, t.category_version,
        t.extra)::syncdesk.bank_row
$$;

create function syncdesk.bank_row_of(s syncdesk.stage) returns syncdesk.bank_row
language sql stable as $$
    select row(s.transaction_id, s.account_id, s.amount, s.iso_currency_code, s.unofficial_currency_code, s.date,
        s.authorized_date, s.datetime, s.authorized_datetime, coalesce(s.name, ''), s.merchant_name,
        s.merchant_entity_id, s.original_description, s.payment_channel, s.check_number, coalesce(s.pending, false),
        s.pending_transaction_id, s.category_primary, s.category_detailed, s.category_confidence,
        s.category_version, coalesce(s.extra, '{}'))::syncdesk.bank_row
$$;

-- The fields that differ, with their values on one side (null where that side has none).
create function syncdesk.changed(mine jsonb, other jsonb) returns jsonb
language sql immutable as $$
    select coalesce(jsonb_object_agg(k, mine -> k), '{}') from (
        select jsonb_object_keys(mine) as k union select jsonb_object_keys(other)
    ) keys where (mine -> k) is distinct from (other -> k)
$$;

-- Until the end of this transaction, a commit does not wait for the disk: for what a crash of the database may take
-- back (a lease, a staged page), since the run's own commit then finds it missing and the wish is still there.
create function syncdesk.no_wait() returns void
language sql as $$ select set_config('synchronous_commit', 'off', true) $$;

-- ---------------------------------------------------------------- leases

-- Whether a lease holds. None is given for six minutes: one that ends later is of a clock that was ahead.
create function syncdesk.lasts(p_until timestamptz) returns boolean
language sql volatile as $$
    select p_until > clock_timestamp() and p_until < clock_timestamp() + interval '6 minutes'
$$;

create function public.syncdesk_sync_claim(
    p_item uuid, p_run uuid, p_owner text, p_job text, p_trigger text, p_correlation text, p_lease_ms integer
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    it syncdesk.items;
    fence_ bigint;
    replay_ boolean := false;
    dead uuid[];
    parked_ syncdesk.sync_runs;
    run_ uuid := p_run;
begin
    perform syncdesk.no_wait();
    select * into it from syncdesk.items where id = p_item for update;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such bank link.';
    end if;
    if it.removed_at is not null then return jsonb_build_object('status', 'removed'); end if;
    if it.paused_at is not null then return jsonb_build_object('status', 'paused'); end if;
    if it.wanted <= it.done then return jsonb_build_object('status', 'nothing'); end if;
    -- Keys or plan of the install are refused: only a person's own try and the schedule's probe go on.
    if not array[p_trigger, it.wanted_trigger] && array['manual', 'probe', 'retry', 'link']
            and exists (select from syncdesk.settings where key = 'install_trouble') then
        update syncdesk.items set done = wanted where id = p_item;
        return jsonb_build_object('status', 'install_paused');
    end if;
    select * into parked_ from syncdesk.sync_runs
        where item_id = p_item and state = 'running' and parked is not null and from_cursor is not distinct from it.cursor
        order by parked_at desc limit 1;
    if found then
        run_ := parked_.id;
        replay_ := parked_.replay;
    end if;
    insert into syncdesk.item_leases as l (item_id, owner, fence, run_id, expires_at)
    values (p_item, p_owner, nextval('syncdesk.fences'), run_, clock_timestamp() + p_lease_ms * interval '1 millisecond')
    on conflict (item_id) do update
        set owner = excluded.owner, fence = excluded.fence, run_id = excluded.run_id, expires_at = excluded.expires_at
        -- Its own lease again: the answer to an earlier call was lost on the way.
        where not syncdesk.lasts(l.expires_at) or l.run_id = p_run or l.owner = 'parked'
    returning l.fence into fence_;
    if fence_ is null then return jsonb_build_object('status', 'busy'); end if;
    -- A run that still says "running" died with its worker.
    select array_agg(id) into dead from syncdesk.sync_runs where item_id = p_item and state = 'running' and id <> run_;
    if dead is not null then
        delete from syncdesk.stage where run_id = any (dead);
        delete from syncdesk.skipped_rows where run_id = any (dead);
        update syncdesk.sync_runs set state = 'abandoned', finished_at = clock_timestamp() where id = any (dead);
    end if;
    if parked_.id is not null then
        update syncdesk.sync_runs set fence = fence_, job_id = p_job, parked = null where id = run_;
    else
        if it.cursor is null then
            replay_ := exists (select from syncdesk.transactions where item_id = p_item);
        end if;
        insert into syncdesk.sync_runs (id, item_id, user_id, job_id, trigger, correlation_id, fence, wanted, replay,
            from_cursor)
        values (p_run, p_item, it.user_id, p_job, p_trigger, p_correlation, fence_, it.wanted, replay_, it.cursor)
        on conflict (id) do update set fence = excluded.fence, wanted = excluded.wanted, pages = 0, added = 0;
    end if;
    update syncdesk.items set last_attempt_at = clock_timestamp() where id = p_item;
    return jsonb_build_object(
        'status', 'claimed', 'run', run_, 'parked', parked_.parked, 'fence', fence_, 'user_id', it.user_id,
        'plaid_item_id', it.plaid_item_id,
        'cursor', it.cursor, 'replay', replay_, 'access_token', it.access_token, 'access_key_id', it.access_key_id,
        'environment', it.environment, 'institution', it.institution_name, 'institution_id', it.institution_id,
        'state', it.state, 'wanted', it.wanted, 'matching', syncdesk.match_inputs(it.user_id, p_item));
end $$;

-- The item stays the run's (nobody begins anew), but whoever claims it next carries the run on.
create function public.syncdesk_sync_park(p_run uuid, p_item uuid, p_fence bigint, p_state jsonb, p_wait_ms integer)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
begin
    perform syncdesk.no_wait();
    perform from syncdesk.items where id = p_item for update;
    update syncdesk.item_leases set owner = 'parked',
        expires_at = clock_timestamp() + p_wait_ms * interval '1 millisecond' + interval '1 minute'
        where item_id = p_item and fence = p_fence;
    if not found then return jsonb_build_object('parked', false); end if;
    update syncdesk.sync_runs set parked = p_state, parked_at = clock_timestamp()
        where id = p_run and state = 'running';
    return jsonb_build_object('parked', found);
end $$;

create function public.syncdesk_lease_renew(p_item uuid, p_fence bigint, p_lease_ms integer) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    perform syncdesk.no_wait();
    update syncdesk.item_leases set expires_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
        where item_id = p_item and fence = p_fence;
    return jsonb_build_object('held', found);
end $$;

-- What a process that ended held is free at once; its runs are over.
create function public.syncdesk_leases_release(p_owner text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    runs uuid[];
begin
    with freed as (
        delete from syncdesk.item_leases where starts_with(owner, p_owner) returning run_id
    ), over as (
        update syncdesk.sync_runs set state = 'abandoned', finished_at = clock_timestamp()
            where id in (select run_id from freed) and state = 'running'
    )
    select coalesce(array_agg(run_id), '{}') into runs from freed;
    delete from syncdesk.stage where run_id = any (runs);
    delete from syncdesk.skipped_rows where run_id = any (runs);
    return jsonb_build_object('released', cardinality(runs));
end $$;

-- ---------------------------------------------------------------- staging

-- Typed rows of one page. A row that cannot be read is set aside with its reason, never its values.
create function syncdesk.read_page(p_run uuid, p_page integer, p_body jsonb) returns setof syncdesk.stage
language plpgsql stable set search_path = '' as $$
begin
    return query
        select p_run, p_page, k.kind, e.position::integer, (r.r).*, e.body
        from (values ('added'), ('modified'), ('removed')) k (kind),
            jsonb_array_elements(p_body -> k.kind) with ordinality e (body, position),
            lateral (select jsonb_populate_record(null::syncdesk.bank_row, e.body) as r offset 0) r;
end $$;

create function syncdesk.read_rows(p_run uuid, p_item uuid, p_user uuid, p_page integer, p_body jsonb)
returns syncdesk.stage[]
language plpgsql set search_path = '' as $$
declare
    rows_ syncdesk.stage[];
    one syncdesk.stage[];
    entry record;
    why text;
begin
    begin
        return coalesce((select array_agg(s) from syncdesk.read_page(p_run, p_page, p_body) s), '{}');
    exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
        rows_ := '{}';
    end;
    for entry in
        select k.kind, e.body from (values ('added'), ('modified'), ('removed')) k (kind),
            jsonb_array_elements(p_body -> k.kind) e (body)
    loop
        begin
            select array_agg(s) into one from syncdesk.read_page(
                p_run, p_page, jsonb_build_object(entry.kind, jsonb_build_array(entry.body))) s;
            rows_ := rows_ || one;
        exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
            get stacked diagnostics why = returned_sqlstate;
            insert into syncdesk.skipped_rows (item_id, user_id, run_id, transaction_id, reason, body)
            values (p_item, p_user, p_run, entry.body ->> 'transaction_id', 'sqlstate ' || why, entry.body);
        end;
    end loop;
    return rows_;
end $$;

-- A page of a run that needs more than one call. Safe to repeat: a page counts once.
create function public.syncdesk_sync_stage(p_run uuid, p_page integer, p_body text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
declare
    run syncdesk.sync_runs;
    body jsonb := p_body::jsonb;
    n bigint;
begin
    perform syncdesk.no_wait();
    select * into run from syncdesk.sync_runs where id = p_run for update;
    if not found or run.state <> 'running' then
        raise exception using errcode = 'SD409', message = 'This run is over; its pages are not taken any more.';
    end if;
    if p_page < run.pages then return jsonb_build_object('rows', 0, 'repeated', true); end if;
    if p_page > run.pages then
        raise exception using errcode = 'SD409', message = 'A page of this run is missing.';
    end if;
    begin
        insert into syncdesk.stage select * from syncdesk.read_page(p_run, p_page, body);
        get diagnostics n = row_count;
    exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
        insert into syncdesk.stage
            select (u).* from unnest(syncdesk.read_rows(p_run, run.item_id, run.user_id, p_page, body)) u;
        get diagnostics n = row_count;
    end;
    -- added: rows so far, which is what the console shows as progress; commit sets the real counts.
    update syncdesk.sync_runs set pages = pages + 1, added = added + n where id = p_run;
    return jsonb_build_object('rows', n);
end $$;

-- The pages so far are void: the pagination starts again, or the run gave up. p_replay: it starts from the beginning, as
-- the bank refused its cursor; its commit sweeps what the bank no longer has, with the bills' matches of these rows.
create function public.syncdesk_sync_abort(p_run uuid, p_replay boolean default false) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
begin
    update syncdesk.sync_runs set pages = 0, added = 0, restarts = restarts + 1, replay = replay or p_replay
        where id = p_run and state = 'running';
    delete from syncdesk.stage where run_id = p_run;
    delete from syncdesk.skipped_rows where run_id = p_run;
    return '{}';
end $$;

-- Leftovers of runs that nobody finished.
create function public.syncdesk_sync_sweep() returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '60s' as $$
declare
    rows_ bigint;
    runs bigint;
begin
    update syncdesk.sync_runs r set state = 'abandoned', finished_at = clock_timestamp()
        where r.state = 'running' and r.started_at < clock_timestamp() - interval '1 minute'
        and (r.parked is null or r.parked_at < clock_timestamp() - interval '1 hour')
        and not exists (select from syncdesk.item_leases l where l.run_id = r.id and syncdesk.lasts(l.expires_at));
    get diagnostics runs = row_count;
    delete from syncdesk.item_leases where expires_at < clock_timestamp() - interval '1 minute';
    delete from syncdesk.skipped_rows s using syncdesk.sync_runs r where r.id = s.run_id and r.state = 'abandoned';
    delete from syncdesk.stage s
        where not exists (select from syncdesk.sync_runs r where r.id = s.run_id and r.state = 'running');
    get diagnostics rows_ = row_count;
    return jsonb_build_object('runs', runs, 'rows', rows_);
end $$;

-- ---------------------------------------------------------------- how a run ends without rows

-- Whether the person signed in again, or the bank told that it is well, after the run had begun: what the run learned
-- before is old news, and the wish that the repair raised finds out how the link stands now.
create function syncdesk.mended_since(i syncdesk.items, r syncdesk.sync_runs) returns boolean
language sql immutable as $$
    select coalesce(i.wanted > r.wanted and ((i.wanted_trigger in ('link', 'probe') and i.wanted_at > r.started_at)
        or (i.state = 'healthy' and i.state_since > r.started_at)), false)
$$;

create function public.syncdesk_sync_fail(
    p_run uuid, p_item uuid, p_fence bigint, p_error jsonb, p_state text, p_code text, p_settle boolean,
    p_install boolean, p_correlation text
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    it syncdesk.items;
    run syncdesk.sync_runs;
    made bigint;
begin
    select * into it from syncdesk.items where id = p_item for update;
    update syncdesk.sync_runs set state = 'failed', error = p_error, finished_at = clock_timestamp()
        where id = p_run and state = 'running' returning * into run;
    delete from syncdesk.stage where run_id = p_run;
    delete from syncdesk.skipped_rows where run_id = p_run;
    delete from syncdesk.item_leases where item_id = p_item and fence = p_fence;
    -- Another run took over: what this one learned is old news.
    if not found then return jsonb_build_object('status', 'stale'); end if;
    if p_settle then
        update syncdesk.items set done = greatest(done, run.wanted) where id = p_item;
    end if;
    if p_state is not null and not (p_state in ('needs_you', 'error') and syncdesk.mended_since(it, run)) then
        made := syncdesk.item_enter(p_item, p_state, p_code, null, p_correlation);
    end if;
    if p_install then
        made := syncdesk.install_trouble(p_code, p_correlation);
    end if;
    return jsonb_build_object('status', 'failed', 'outbox', made);
end $$;

-- The jobs' side gave up on a run (its attempts are used up): what it was for is not asked again
-- by itself; a trigger that came after its last start still is.
create function syncdesk.settle(p_item uuid, p_job text) returns void
language sql set search_path = '' as $$
    update syncdesk.items i set done = greatest(i.done, r.wanted) from (
        select wanted from syncdesk.sync_runs where item_id = p_item and job_id = p_job
        order by started_at desc limit 1
    ) r where i.id = p_item
$$;
