-- Bills: what the person typed, when each is due, and what was paid of it.

-- ---------------------------------------------------------------- due dates

-- That day of the month, or the month's last one.
create function syncdesk.day_of(p_month date, p_day integer) returns date
language sql immutable as $$
    select least(p_month + (p_day - 1), (p_month + interval '1 month')::date - 1)
$$;

-- Nominal due dates from p_first to p_last by calendar arithmetic from the anchor, both ways
-- (engine/matching/periods.py says the same; a test holds them together).
create function syncdesk.dues(p_cadence text, p_anchor date, p_first date, p_last date) returns setof date
language plpgsql immutable set search_path = '' as $$
declare
    step integer := case p_cadence when 'weekly' then 7 when 'biweekly' then 14 end;
    months integer := case p_cadence when 'bimonthly' then 2 when 'quarterly' then 3 when 'yearly' then 12 else 1 end;
    days integer[] := array[extract(day from p_anchor)::integer];
    anchor_month integer := extract(year from p_anchor)::integer * 12 + extract(month from p_anchor)::integer - 1;
    index_ integer := extract(year from p_first)::integer * 12 + extract(month from p_first)::integer - 1;
begin
    if step is not null then
        return query select p_first + ((p_anchor - p_first) % step + step) % step + n * step
            from generate_series(0, (p_last - p_first) / step) n
            where p_first + ((p_anchor - p_first) % step + step) % step + n * step <= p_last;
        return;
    end if;
    if p_cadence = 'semimonthly' then
        days := case
            when days[1] = 15 or p_anchor = syncdesk.day_of(date_trunc('month', p_anchor)::date, 31) then array[15, 31]
            when days[1] < 15 then array[days[1], days[1] + 15]
            else array[days[1] - 15, days[1]] end;
    end if;
    index_ := index_ + ((anchor_month - index_) % months + months) % months;
    return query
        select due from (
            select syncdesk.day_of(make_date(i / 12, i % 12 + 1, 1), d) as due
            from generate_series(index_, extract(year from p_last)::integer * 12 + extract(month from p_last)::integer - 1,
                months) i, unnest(days) d) found_
        where due between p_first and p_last order by due;
end $$;

-- Those that count: not before the bill's start, not after its end.
create function syncdesk.bill_dues(b syncdesk.bills, p_first date, p_last date) returns setof date
language sql stable set search_path = '' as $$
    select syncdesk.dues(b.cadence, b.anchor_date, greatest(p_first, b.start_date), least(p_last, b.end_date))
$$;

-- The day a due date moves to where it falls on a weekend.
create function syncdesk.shifted(p_due date, p_shift text) returns date
language sql immutable as $$
    select case when extract(isodow from p_due) < 6 or p_shift = 'none' then p_due
        when p_shift = 'next' then p_due + (8 - extract(isodow from p_due)::integer)
        else p_due - (extract(isodow from p_due)::integer - 5) end
$$;

-- ---------------------------------------------------------------- how a bill stands

-- A bill as the API tells of it. It speaks of the last due date until a week before the next one.
-- Overdue after three days' grace (banks post late), and only where transactions reach back to the due date.
create function syncdesk.bill_json(b syncdesk.bills, p_today date default current_date) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
    last_due date := (select max(d) from syncdesk.bill_dues(b, p_today - 370, p_today) d);
    next_ date := (select min(d) from syncdesk.bill_dues(b, p_today + 1, p_today + 370) d);
    known_from date := (select min(date) from syncdesk.transactions where user_id = b.user_id and removed_at is null);
    due_ date := last_due;
    last_paid boolean;
    paid record;
    state_ text;
begin
    last_paid := exists (select from syncdesk.matches m
        where m.bill_id = b.id and m.period = last_due and syncdesk.is_tag(m.state));
    if last_due is null or (last_paid and next_ - p_today <= 7)
            or (not last_paid and (known_from is null or last_due < known_from)) then
        due_ := coalesce(next_, last_due);
    end if;
    select max(t.date) as paid_on, sum(t.amount) as amount into paid
        from syncdesk.matches m
            join syncdesk.transactions t on t.item_id = m.item_id and t.transaction_id = m.transaction_id
        where m.bill_id = b.id and m.period = due_ and syncdesk.is_tag(m.state) and t.removed_at is null;
    state_ := case
        when b.archived_at is not null or (b.end_date < p_today and paid.paid_on is null) or due_ is null then 'ended'
        when paid.paid_on is not null and due_ = last_due and b.end_date < p_today then 'ended'
        when paid.paid_on is not null then 'paid'
        when syncdesk.shifted(due_, b.business_day_shift) + 3 < p_today then 'overdue'
        when due_ <= p_today + 7 then 'due'
        else 'upcoming' end;
    return jsonb_build_object(
        'id', b.id, 'user_id', b.user_id, 'name', b.name, 'amount', b.amount::text, 'amount_min', b.amount_min::text,
        'amount_max', b.amount_max::text, 'currency', b.currency, 'category', b.category, 'cadence', b.cadence,
        'state', state_, 'due', due_, 'next_due', next_, 'paid_on', paid.paid_on, 'paid_amount', paid.amount::text,
        'days_late', case
            when paid.paid_on is not null then greatest(0, paid.paid_on - syncdesk.shifted(due_, b.business_day_shift))
            when state_ = 'overdue' then p_today - syncdesk.shifted(due_, b.business_day_shift) end,
        'archived', b.archived_at is not null);
end $$;

-- p_state: one of the states, "archived", or null for all that are not archived. By name.
create function public.syncdesk_bills_list(p_user uuid, p_q text, p_state text, p_after text, p_limit integer)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '15s' as $$
declare
    size constant integer := least(greatest(coalesce(p_limit, 50), 1), 500);
    last_ record;
    found_ jsonb;
    counts_ jsonb;
    more boolean;
begin
    if p_after is not null then select lower(name) as name, id into last_ from syncdesk.bills where id = p_after::uuid;
    else select null::text as name, null::uuid as id into last_; end if;
    with seen as materialized (
        select b.id, lower(b.name) as name, b.archived_at is not null as archived, syncdesk.bill_json(b) as body
        from syncdesk.bills b
        where (p_user is null or b.user_id = p_user)
            and (coalesce(p_q, '') = '' or position(lower(p_q) in lower(b.name)) > 0)
    ), wanted as (
        select * from seen
        where case when p_state = 'archived' then archived
                else not archived and (p_state is null or body ->> 'state' = p_state) end
            and (last_.id is null or (name, id) > (last_.name, last_.id))
        order by name, id limit size + 1
    ), numbered as (
        select *, row_number() over (order by name, id) as n from wanted
    )
    select coalesce((select jsonb_agg(body order by n) from numbered where n <= size), '[]'),
        (select count(*) > size from numbered),
        (select coalesce(jsonb_object_agg(k, n), '{}') from (
            select case when archived then 'archived' else body ->> 'state' end as k, count(*) as n
            from seen group by 1) c)
        into found_, more, counts_;
    return jsonb_build_object('bills', found_, 'counts', counts_,
        'next', case when more then found_ -> -1 ->> 'id' end);
end $$;

-- One bill with its matches, newest period first; "nearest" is weighed outside, "written" is what the person typed.
create function public.syncdesk_bill_get(p_bill uuid) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    b syncdesk.bills;
begin
    select * into b from syncdesk.bills where id = p_bill;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such bill.'; end if;
    return jsonb_build_object(
        'bill', syncdesk.bill_json(b),
        'history', coalesce((select jsonb_agg(syncdesk.match_json(m) order by m.period desc, m.created_at desc)
            from (select * from syncdesk.matches where bill_id = p_bill and state <> 'undone'
                order by period desc, created_at desc limit 60) m), '[]'),
        'nearest', '[]'::jsonb,
        'written', jsonb_build_object(
            'name', b.name, 'cadence', b.cadence, 'anchor_date', b.anchor_date, 'currency', b.currency,
            'amount', b.amount::text, 'amount_min', b.amount_min::text, 'amount_max', b.amount_max::text,
            'category', b.category, 'tolerance', b.tolerance::text, 'aliases', b.aliases,
            'business_day_shift', b.business_day_shift, 'account_id', b.account_id, 'start_date', b.start_date,
            'end_date', b.end_date, 'user', (select name from syncdesk.users where id = b.user_id)));
end $$;

-- ---------------------------------------------------------------- writing

create function syncdesk.refuse_bill(p_bill jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
    wrong text;
begin
    wrong := case
        when coalesce(trim(p_bill ->> 'name'), '') = '' then 'A bill needs a name.'
        when length(p_bill ->> 'name') > 200 then 'The name of a bill may have at most 200 characters.'
        when coalesce(p_bill ->> 'cadence', '') not in
            ('weekly', 'biweekly', 'semimonthly', 'monthly', 'bimonthly', 'quarterly', 'yearly')
            then 'The cadence must be weekly, biweekly, semimonthly, monthly, bimonthly, quarterly or yearly.'
        when p_bill ->> 'anchor_date' is null then 'A bill needs a due date to count from.'
        when (p_bill ->> 'amount')::numeric <= 0 or (p_bill ->> 'amount_min')::numeric < 0
            or (p_bill ->> 'amount_max')::numeric <= 0 then 'Amounts of a bill must be greater than zero.'
        when (p_bill ->> 'amount_min')::numeric > (p_bill ->> 'amount_max')::numeric
            then 'The least amount must not be greater than the greatest.'
        when (p_bill ->> 'tolerance')::numeric not between 0 and 1 then 'The tolerance must be between 0 and 1.'
        when coalesce(p_bill ->> 'business_day_shift', 'none') not in ('none', 'next', 'previous')
            then 'The shift must be none, next or previous.'
        when (p_bill ->> 'start_date')::date > (p_bill ->> 'end_date')::date
            then 'The bill must not end before it starts.'
        when (p_bill ->> 'anchor_date')::date not between '1970-01-01' and '2199-12-31'
            then 'The due date must lie between 1970 and 2199.'
        when coalesce(jsonb_typeof(p_bill -> 'aliases'), 'array') <> 'array' then 'Aliases must be a list of names.'
    end;
    if wrong is not null then raise exception using errcode = 'SD400', message = wrong; end if;
exception when invalid_text_representation or invalid_datetime_format or datetime_field_overflow
        or numeric_value_out_of_range then
    raise exception using errcode = 'SD400', message = 'An amount or a date of the bill cannot be read.';
end $$;

create function syncdesk.write_bill(p_id uuid, p_user uuid, p_bill jsonb) returns uuid
language plpgsql set search_path = '' as $$
declare
    made uuid := coalesce(p_id, gen_random_uuid());
begin
    perform syncdesk.refuse_bill(p_bill);
    insert into syncdesk.bills as b (id, user_id, name, amount, amount_min, amount_max, currency, category, cadence,
        anchor_date, business_day_shift, account_id, tolerance, aliases, start_date, end_date)
    values (made, p_user, trim(p_bill ->> 'name'), (p_bill ->> 'amount')::numeric, (p_bill ->> 'amount_min')::numeric,
        (p_bill ->> 'amount_max')::numeric, coalesce(p_bill ->> 'currency', 'USD'), p_bill ->> 'category',
        p_bill ->> 'cadence', (p_bill ->> 'anchor_date')::date, coalesce(p_bill ->> 'business_day_shift', 'none'),
        p_bill ->> 'account_id', coalesce((p_bill ->> 'tolerance')::numeric, 0.10),
        coalesce(p_bill -> 'aliases', '[]'), (p_bill ->> 'start_date')::date, (p_bill ->> 'end_date')::date)
    on conflict (id) do update set name = excluded.name, amount = excluded.amount, amount_min = excluded.amount_min,
        amount_max = excluded.amount_max, currency = excluded.currency, category = excluded.category,
        cadence = excluded.cadence, anchor_date = excluded.anchor_date,
        business_day_shift = excluded.business_day_shift, account_id = excluded.account_id,
        tolerance = excluded.tolerance, aliases = excluded.aliases, start_date = excluded.start_date,
        end_date = excluded.end_date, updated_at = clock_timestamp();
    update syncdesk.users set match_version = match_version + 1 where id = p_user;
    return made;
end $$;

create function syncdesk.user_named(p_name text) returns uuid
language plpgsql set search_path = '' as $$
declare
    found_ uuid;
begin
    insert into syncdesk.users (name) values (p_name) on conflict (name) do nothing;
    select id into found_ from syncdesk.users where name = p_name;
    return found_;
end $$;

-- p_bill null: a new one, for the user of that name (made if new). An edit replaces every field and keeps the user.
create function public.syncdesk_bill_put(p_bill uuid, p_user text, p_body jsonb) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    owner_ uuid;
    made uuid;
begin
    if p_bill is null then
        perform syncdesk.refuse_bill(p_body);
        owner_ := syncdesk.user_named(p_user);
    else
        select user_id into owner_ from syncdesk.bills where id = p_bill for update;
        if not found then raise exception using errcode = 'SD404', message = 'There is no such bill.'; end if;
    end if;
    made := syncdesk.write_bill(p_bill, owner_, p_body);
    return jsonb_build_object('id', made, 'user_id', owner_,
        'bill', (select syncdesk.bill_json(b) from syncdesk.bills b where id = made));
end $$;

-- Its matches stay as history; what was only proposed goes. Archiving can be undone.
create function public.syncdesk_bill_archive(p_bill uuid, p_archived boolean) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    b syncdesk.bills;
begin
    update syncdesk.bills set archived_at = case when p_archived then coalesce(archived_at, clock_timestamp()) end,
        updated_at = clock_timestamp() where id = p_bill returning * into b;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such bill.'; end if;
    if p_archived then delete from syncdesk.matches where bill_id = p_bill and state = 'suggested'; end if;
    update syncdesk.users set match_version = match_version + 1 where id = b.user_id;
    return jsonb_build_object('id', b.id, 'user_id', b.user_id, 'bill', syncdesk.bill_json(b));
end $$;

-- All or nothing. A bill of the same name and cadence is replaced, so that a file can be imported again.
create function public.syncdesk_bills_import(p_user text, p_bills jsonb) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '60s' as $$
declare
    owner_ uuid := syncdesk.user_named(p_user);
    e jsonb;
    known uuid;
    ids jsonb := '[]';
    created_ integer := 0;
    updated_ integer := 0;
begin
    for e in select value from jsonb_array_elements(p_bills) loop
        select id into known from syncdesk.bills where user_id = owner_ and archived_at is null
            and lower(name) = lower(trim(e ->> 'name')) and cadence = e ->> 'cadence'
            and not ids ? id::text order by created_at limit 1;
        if known is null then created_ := created_ + 1; else updated_ := updated_ + 1; end if;
        ids := ids || to_jsonb(syncdesk.write_bill(known, owner_, e));
    end loop;
    return jsonb_build_object('user_id', owner_, 'created', created_, 'updated', updated_, 'ids', ids);
end $$;
