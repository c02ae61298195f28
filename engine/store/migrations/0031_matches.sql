-- Bill matches: what a plan is made from, and what it changes. The plan itself is made outside.

create index matches_user_period on syncdesk.matches (user_id, period);

-- ---------------------------------------------------------------- what a plan is made from

-- Bills, the payments of the window and the matches on them, each as the text of a JSON list: building
-- jsonb field by field takes several times as long, and this runs on every claim. The window is 100 days,
-- or all there is (p_item's history is still arriving, or p_all); without bills it is one look at an index.
create function syncdesk.match_inputs(p_user uuid, p_item uuid default null, p_all boolean default false)
returns jsonb
language plpgsql stable set search_path = '' as $$
declare
    version bigint;
    since date := current_date - 100;
    most constant integer := 20000;
begin
    select match_version into version from syncdesk.users where id = p_user;
    if not exists (select from syncdesk.bills where user_id = p_user and archived_at is null) then
        return jsonb_build_object('match_version', version);
    end if;
    if p_all or exists (select from syncdesk.items where id = p_item
            and (cursor is null or update_status in ('NOT_READY', 'INITIAL_UPDATE_COMPLETE'))) then
        -- Null: everything. Past the cap the oldest day may be cut in two, so the window begins after it.
        since := (select date + 1 from syncdesk.transactions where user_id = p_user and removed_at is null
            order by date desc, id desc offset most limit 1);
    end if;
    return jsonb_build_object(
        'match_version', version,
        'since', since,
        'bills', (select json_agg(r)::text from (
            select id, name, amount::text, amount_min::text, amount_max::text, currency, category, cadence,
                anchor_date, business_day_shift, account_id, tolerance::text, aliases, start_date, end_date
            from syncdesk.bills where user_id = p_user and archived_at is null order by id) r),
        -- Hundreds of rows on every claim: arrays without names are half the text and half the time.
        'payments', (select json_agg(json_build_array(
                item_id, transaction_id, account_id, date, authorized_date, amount::text,
                coalesce(iso_currency_code, unofficial_currency_code), name, merchant_name,
                pending, pending_transaction_id, category_primary, category_detailed))::text
            from syncdesk.transactions
            where user_id = p_user and removed_at is null and date >= coalesce(since, '-infinity')),
        'matches', (select json_agg(r)::text from (
            select m.bill_id, m.item_id, m.transaction_id, m.period, m.state
            from syncdesk.matches m
                join syncdesk.transactions t on t.item_id = m.item_id and t.transaction_id = m.transaction_id
            where m.user_id = p_user and m.state <> 'undone' and t.removed_at is null
                and m.period >= coalesce(since - 60, '-infinity')) r));
end $$;

create function public.syncdesk_match_inputs(p_user uuid) returns jsonb
language sql security definer set search_path = '' set statement_timeout = '30s' as $$
    select syncdesk.match_inputs(p_user, p_all => true)
$$;

-- ---------------------------------------------------------------- what it changes

-- One line in the transaction's history for each tag that came, moved or went.
create function syncdesk.note_tag(
    p_match syncdesk.matches, p_change text, p_source text, p_run uuid, p_correlation text
) returns void
language sql set search_path = '' as $$
    insert into syncdesk.transaction_history
        (item_id, user_id, transaction_id, change, old, new, source, run_id, correlation_id)
    values (p_match.item_id, p_match.user_id, p_match.transaction_id, p_change,
        case when p_change = 'untagged' then jsonb_build_object('bill_id', p_match.bill_id, 'period', p_match.period) end,
        case when p_change = 'tagged' then jsonb_build_object('bill_id', p_match.bill_id, 'period', p_match.period) end,
        p_source, p_run, p_correlation)
$$;

create function syncdesk.is_tag(p_state text) returns boolean
language sql immutable as $$ select p_state in ('auto', 'confirmed', 'assigned') $$;

-- Drop the matcher's own matches of a payment, on one bill or (null) on any but p_except.
create function syncdesk.withdraw(
    p_user uuid, p_item uuid, p_transaction text, p_bill uuid, p_except uuid, p_source text, p_run uuid,
    p_correlation text, out untagged integer, out dropped integer
)
language plpgsql set search_path = '' as $$
declare
    m syncdesk.matches;
begin
    untagged := 0; dropped := 0;
    for m in
        delete from syncdesk.matches d
        where d.user_id = p_user and d.item_id = p_item and d.transaction_id = p_transaction
            and d.state in ('auto', 'suggested') and (p_bill is null or d.bill_id = p_bill)
            and d.bill_id is distinct from p_except
        returning d.*
    loop
        dropped := dropped + 1;
        if m.state = 'auto' then
            perform syncdesk.note_tag(m, 'untagged', p_source, p_run, p_correlation);
            untagged := untagged + 1;
        end if;
    end loop;
end $$;

-- Take over a plan: [{bill_id, item_id, transaction_id, period, state, score, evidence, others}], where
-- state "none" withdraws. What the person confirmed, assigned or rejected is never touched, nor is a
-- transaction tagged that is not there. Raises the user's match_version if anything changed.
create function syncdesk.apply_matches(p_user uuid, p_run uuid, p_correlation text, p_matches jsonb)
returns jsonb
language plpgsql set search_path = '' as $$
declare
    e jsonb;
    was syncdesk.matches;
    m syncdesk.matches;
    gone record;
    tagged_ integer := 0;
    untagged_ integer := 0;
    suggested_ integer := 0;
    changed boolean := false;
begin
    -- A replay sweeps rows that no plan was told of.
    if p_run is null or exists (select from syncdesk.sync_runs where id = p_run and replay) then
        for was in
            select d.* from syncdesk.matches d
                join syncdesk.transactions t on t.item_id = d.item_id and t.transaction_id = d.transaction_id
            where d.user_id = p_user and d.state in ('auto', 'suggested') and t.removed_at is not null
        loop
            select * into gone from syncdesk.withdraw(p_user, was.item_id, was.transaction_id, was.bill_id, null,
                'matcher', p_run, p_correlation);
            untagged_ := untagged_ + gone.untagged;
            changed := true;
        end loop;
    end if;
    for e in select value from jsonb_array_elements(p_matches) where value ->> 'state' = 'none' loop
        select * into gone from syncdesk.withdraw(p_user, (e ->> 'item_id')::uuid, e ->> 'transaction_id',
            (e ->> 'bill_id')::uuid, null, 'matcher', p_run, p_correlation);
        untagged_ := untagged_ + gone.untagged;
        changed := changed or gone.dropped > 0;
    end loop;
    for e in select value from jsonb_array_elements(p_matches) where value ->> 'state' in ('auto', 'suggested') loop
        m := null; was := null;
        m.item_id := (e ->> 'item_id')::uuid;
        m.transaction_id := e ->> 'transaction_id';
        m.bill_id := (e ->> 'bill_id')::uuid;
        continue when exists (select from syncdesk.matches d
                where d.item_id = m.item_id and d.transaction_id = m.transaction_id
                    and (d.state in ('confirmed', 'assigned') or (d.state = 'rejected' and d.bill_id = m.bill_id)))
            or not exists (select from syncdesk.transactions t where t.item_id = m.item_id
                and t.transaction_id = m.transaction_id and t.user_id = p_user and t.removed_at is null)
            or not exists (select from syncdesk.bills b
                where b.id = m.bill_id and b.user_id = p_user and b.archived_at is null);
        select * into gone from syncdesk.withdraw(p_user, m.item_id, m.transaction_id, null, m.bill_id, 'matcher',
            p_run, p_correlation);
        untagged_ := untagged_ + gone.untagged;
        select * into was from syncdesk.matches d where d.item_id = m.item_id and d.transaction_id = m.transaction_id
            and d.bill_id = m.bill_id and d.state in ('auto', 'suggested') limit 1;
        if was.id is null then
            insert into syncdesk.matches (user_id, bill_id, item_id, transaction_id, period, state, score, evidence,
                others, run_id, correlation_id)
            values (p_user, m.bill_id, m.item_id, m.transaction_id, (e ->> 'period')::date, e ->> 'state',
                coalesce((e ->> 'score')::double precision, 0), coalesce(e -> 'evidence', '[]'),
                coalesce(e -> 'others', '[]'), p_run, p_correlation)
            returning * into m;
        else
            update syncdesk.matches d set period = (e ->> 'period')::date, state = e ->> 'state',
                score = coalesce((e ->> 'score')::double precision, 0), evidence = coalesce(e -> 'evidence', '[]'),
                others = coalesce(e -> 'others', '[]'), run_id = p_run, correlation_id = p_correlation,
                updated_at = clock_timestamp()
            where d.id = was.id returning * into m;
        end if;
        if m.state = 'auto' and (was.state, was.period) is distinct from (m.state, m.period) then
            perform syncdesk.note_tag(m, 'tagged', 'matcher', p_run, p_correlation);
            tagged_ := tagged_ + 1;
        elsif m.state = 'suggested' and was.state = 'auto' then
            perform syncdesk.note_tag(was, 'untagged', 'matcher', p_run, p_correlation);
            untagged_ := untagged_ + 1;
        end if;
        if m.state = 'suggested' and was.state is distinct from 'suggested' then suggested_ := suggested_ + 1; end if;
        changed := true;
    end loop;
    if changed then update syncdesk.users set match_version = match_version + 1 where id = p_user; end if;
    return jsonb_build_object('tagged', tagged_, 'untagged', untagged_, 'suggested', suggested_);
end $$;

-- A plan made outside a sync. Status rematch: bills or matches changed meanwhile, plan again.
create function public.syncdesk_matches_apply(p_user uuid, p_version bigint, p_matches jsonb, p_correlation text)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
declare
    version bigint;
begin
    select match_version into version from syncdesk.users where id = p_user for update;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such user.';
    end if;
    if version <> p_version then
        return jsonb_build_object('status', 'rematch');
    end if;
    update syncdesk.users set rematch_wanted = false where id = p_user and rematch_wanted;
    return syncdesk.apply_matches(p_user, null, p_correlation, p_matches) || '{"status": "ok"}';
end $$;

-- ---------------------------------------------------------------- what the person decides

create function syncdesk.match_json(m syncdesk.matches) returns jsonb
language sql stable set search_path = '' as $$
    select jsonb_build_object(
        'id', m.id, 'bill_id', m.bill_id, 'bill', (select name from syncdesk.bills where id = m.bill_id),
        'transaction_id', m.transaction_id, 'period', m.period, 'state', m.state, 'score', m.score,
        'description', coalesce(t.merchant_name, nullif(t.name, ''), ''),
        'institution', coalesce((select institution_name from syncdesk.items where id = m.item_id), ''),
        'date', coalesce(t.date, m.period), 'amount', coalesce(t.amount, 0)::text,
        'currency', coalesce(t.iso_currency_code, t.unofficial_currency_code, ''),
        'evidence', m.evidence, 'others', m.others, 'version', extract(epoch from m.updated_at)::text)
    from (select 1) one
        left join syncdesk.transactions t on t.item_id = m.item_id and t.transaction_id = m.transaction_id
$$;

-- A match the person looked at, still as they saw it (p_version null: whatever it is now).
create function syncdesk.match_seen(p_match uuid, p_version text) returns syncdesk.matches
language plpgsql set search_path = '' as $$
declare
    m syncdesk.matches;
begin
    select * into m from syncdesk.matches where id = p_match for update;
    if not found or m.state = 'undone' then
        raise exception using errcode = 'SD404', message = 'This match is gone: a newer sync replaced it.';
    end if;
    if p_version is not null and p_version <> extract(epoch from m.updated_at)::text then
        raise exception using errcode = 'SD409',
            message = 'This match changed since it was shown. Look at it again before deciding.';
    end if;
    return m;
end $$;

create function syncdesk.put_label(m syncdesk.matches, p_label text, p_before jsonb) returns void
language sql set search_path = '' as $$
    insert into syncdesk.match_labels (user_id, bill_id, item_id, transaction_id, period, label, before)
    values (m.user_id, m.bill_id, m.item_id, m.transaction_id, m.period, p_label, p_before);
    update syncdesk.users set match_version = match_version + 1 where id = m.user_id
$$;

create function public.syncdesk_match_decide(p_match uuid, p_decision text, p_version text, p_correlation text)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    was syncdesk.matches := syncdesk.match_seen(p_match, p_version);
    m syncdesk.matches;
begin
    if p_decision not in ('confirm', 'reject') then
        raise exception using errcode = 'SD400', message = 'A match can be confirmed or rejected.';
    end if;
    if was.state in ('confirmed', 'assigned', 'rejected') then
        raise exception using errcode = 'SD409', message = 'This match is decided already. Undo that first.';
    end if;
    if p_decision = 'confirm' then
        if exists (select from syncdesk.matches o where o.item_id = was.item_id and o.id <> was.id
                and o.transaction_id = was.transaction_id and o.state in ('confirmed', 'assigned')) then
            raise exception using errcode = 'SD409',
                message = 'This payment is decided for another bill. Undo that first.';
        end if;
        perform syncdesk.withdraw(was.user_id, was.item_id, was.transaction_id, null, was.bill_id, 'person', null,
            p_correlation);
    end if;
    update syncdesk.matches set state = case p_decision when 'confirm' then 'confirmed' else 'rejected' end,
        updated_at = clock_timestamp(), correlation_id = p_correlation
        where id = p_match returning * into m;
    if syncdesk.is_tag(m.state) and not syncdesk.is_tag(was.state) then
        perform syncdesk.note_tag(m, 'tagged', 'person', null, p_correlation);
    elsif syncdesk.is_tag(was.state) and not syncdesk.is_tag(m.state) then
        perform syncdesk.note_tag(was, 'untagged', 'person', null, p_correlation);
    end if;
    perform syncdesk.put_label(m, p_decision, jsonb_build_object('state', was.state, 'period', was.period));
    return jsonb_build_object('user_id', m.user_id, 'match', syncdesk.match_json(m));
end $$;

-- Back to what it was before the person's last decision; one that the person made by hand goes.
create function public.syncdesk_match_undo(p_match uuid, p_version text, p_correlation text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    was syncdesk.matches := syncdesk.match_seen(p_match, p_version);
    m syncdesk.matches := was;
    before_ jsonb;
begin
    if was.state not in ('confirmed', 'assigned', 'rejected') then
        raise exception using errcode = 'SD409', message = 'There is no decision on this match to undo.';
    end if;
    select before into before_ from syncdesk.match_labels
        where bill_id = was.bill_id and item_id = was.item_id and transaction_id = was.transaction_id
            and label <> 'undo' order by id desc limit 1;
    m.state := before_ ->> 'state';
    m.period := coalesce((before_ ->> 'period')::date, was.period);
    -- A tag that another bill holds by now is not taken back from it.
    if syncdesk.is_tag(m.state) and exists (select from syncdesk.matches o where o.item_id = was.item_id
            and o.transaction_id = was.transaction_id and o.id <> was.id and syncdesk.is_tag(o.state)) then
        m.state := 'suggested';
    end if;
    if m.state is null then
        delete from syncdesk.matches where id = was.id;
    else
        update syncdesk.matches set state = m.state, period = m.period, updated_at = clock_timestamp(),
            correlation_id = p_correlation where id = was.id returning * into m;
    end if;
    if syncdesk.is_tag(was.state) and not coalesce(syncdesk.is_tag(m.state), false) then
        perform syncdesk.note_tag(was, 'untagged', 'person', null, p_correlation);
    elsif syncdesk.is_tag(m.state) and not syncdesk.is_tag(was.state) then
        perform syncdesk.note_tag(m, 'tagged', 'person', null, p_correlation);
    end if;
    perform syncdesk.put_label(was, 'undo', jsonb_build_object('state', was.state, 'period', was.period));
    return jsonb_build_object('user_id', was.user_id,
        'match', case when m.state is not null then syncdesk.match_json(m) end);
end $$;

create function public.syncdesk_match_assign(p_bill uuid, p_transaction text, p_period text, p_correlation text)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    b syncdesk.bills;
    t syncdesk.transactions;
    was syncdesk.matches;
    m syncdesk.matches;
    due date := p_period::date;
begin
    select * into b from syncdesk.bills where id = p_bill and archived_at is null;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such bill.'; end if;
    select * into t from syncdesk.transactions
        where user_id = b.user_id and transaction_id = p_transaction and removed_at is null order by id limit 1;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such transaction.'; end if;
    if not exists (select from syncdesk.bill_dues(b, due, due)) then
        raise exception using errcode = 'SD400', message = 'The bill is not due on that day.';
    end if;
    if exists (select from syncdesk.matches o where o.item_id = t.item_id and o.transaction_id = t.transaction_id
            and o.state in ('confirmed', 'assigned')) then
        raise exception using errcode = 'SD409', message = 'This payment is decided already. Undo that first.';
    end if;
    select * into was from syncdesk.matches o where o.bill_id = p_bill and o.item_id = t.item_id
        and o.transaction_id = t.transaction_id for update;
    perform syncdesk.withdraw(b.user_id, t.item_id, t.transaction_id, null, p_bill, 'person', null, p_correlation);
    if was.id is null then
        insert into syncdesk.matches (user_id, bill_id, item_id, transaction_id, period, state, score, correlation_id)
        values (b.user_id, p_bill, t.item_id, t.transaction_id, due, 'assigned', 1, p_correlation) returning * into m;
    else
        update syncdesk.matches set state = 'assigned', period = due, updated_at = clock_timestamp(),
            correlation_id = p_correlation where id = was.id returning * into m;
    end if;
    if not coalesce(syncdesk.is_tag(was.state) and was.period = due, false) then
        perform syncdesk.note_tag(m, 'tagged', 'person', null, p_correlation);
    end if;
    perform syncdesk.put_label(m, 'assign', case when was.id is not null then
        jsonb_build_object('state', was.state, 'period', was.period) end);
    return jsonb_build_object('user_id', m.user_id, 'match', syncdesk.match_json(m));
end $$;

-- Suggestions first, then what was tagged unattended, newest first (p_state: only those).
create function public.syncdesk_matches_review(p_user uuid, p_state text, p_after text, p_limit integer)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    size constant integer := least(greatest(coalesce(p_limit, 50), 1), 500);
    found_ jsonb;
    last_ syncdesk.matches;
    more boolean;
    counts jsonb;
begin
    if p_after is not null then select * into last_ from syncdesk.matches where id = p_after::uuid; end if;
    with page as (
        select m.*, row_number() over (order by (m.state = 'suggested') desc, m.created_at desc, m.id) as n
        from syncdesk.matches m
        where (p_user is null or m.user_id = p_user)
            and m.state in ('suggested', 'auto', 'confirmed', 'rejected', 'assigned')
            and (m.state = p_state or (p_state is null and m.state in ('suggested', 'auto')))
            and (last_.id is null or (case when m.state = 'suggested' then 0 else 1 end, -extract(epoch from m.created_at), m.id)
                > (case when last_.state = 'suggested' then 0 else 1 end, -extract(epoch from last_.created_at), last_.id))
        order by (m.state = 'suggested') desc, m.created_at desc, m.id
        limit size + 1
    )
    select coalesce(jsonb_agg(syncdesk.match_json((select m from syncdesk.matches m where m.id = page.id)) order by n)
        filter (where n <= size), '[]'), count(*) > size into found_, more from page;
    select coalesce(jsonb_object_agg(state, n), '{}') into counts from (
        select state, count(*) as n from syncdesk.matches
        where (p_user is null or user_id = p_user) and state <> 'undone' group by state) c;
    return jsonb_build_object('matches', found_, 'counts', counts,
        'next', case when more then found_ -> -1 ->> 'id' end);
end $$;
