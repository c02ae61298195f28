-- Whose turn it is how often: users and the weight of their jobs (docs/architecture.md, `weights`).

create function public.syncdesk_users_list(p_after text default null, p_limit integer default 100) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    with page as (
        select u.id, u.name, u.weight, u.created_at from syncdesk.users u
        where p_after is null or u.name > p_after order by u.name limit p_limit + 1
    ), shown as (select * from page order by name limit p_limit)
    select jsonb_build_object(
        'users', coalesce(jsonb_agg(jsonb_build_object(
            'id', s.id, 'name', s.name, 'weight', s.weight, 'created_at', s.created_at,
            'banks', (select count(*) from syncdesk.items i where i.user_id = s.id and i.removed_at is null))
            order by s.name), '[]'),
        'next', case when (select count(*) from page) > p_limit then max(s.name) end)
    from shown s
$$;

-- Answer: all weights that are not one, as the queue keeps them.
create function public.syncdesk_user_weigh(p_user uuid, p_weight integer) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    name_ text;
begin
    update syncdesk.users set weight = p_weight where id = p_user returning name into name_;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such user.'; end if;
    return jsonb_build_object('name', name_, 'weights', coalesce(
        (select jsonb_object_agg(id, weight) from syncdesk.users where weight <> 1), '{}'));
end $$;
