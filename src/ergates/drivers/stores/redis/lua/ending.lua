-- What seldom becomes of a lease: it goes back, or it is ended for a worker that was found dead.

function S.take_back(job, task, c, known, lane, attempts, setback)
  local past, class, avoid = c[11], c[13], c[14]
  local about = S.parse_lane(lane)
  local due = c[12] > 0 and c[12] + ahead or 0
  if class == 0 then
    class = about.class
  end
  local plain = past[1] + past[2] + past[3] + past[4] + past[5] + attempts == 0
  if plain and not setback and class == about.class and avoid == '' and about.avoid == '' and due <= at and c[10] == '' then
    S.move(job, LEASED, READY, 1) -- never tried: as if it had not been leased
    S.make_ready(job, task, lane, FRESH)
    return
  end
  local reason = c[5] and c[10] or ''
  local new = { past[1], past[2], past[3], past[4], past[5], attempts, class, about.priority, avoid, 0, reason, 0, '' }
  if due > at then
    new[DUE] = due
    S.write_setback(job, task, new)
    S.set_states(job, task, task, DELAYED)
    S.move(job, LEASED, DELAYED, 1)
    call('ZADD', job.key .. ':delayed', due, task)
    S.note_due(job)
  else
    S.write_setback(job, task, new)
    S.move(job, LEASED, READY, 1)
    S.make_ready(job, task, S.lane_name(job.n, class, about.priority, avoid), READY)
  end
end

-- Of others' leases only those of workers that were found dead may be ended.
function S.commit_for_the_dead(field, c, blob)
  local holder, value = S.reap_holder(field, c[3])
  if not holder then
    return false
  end
  local reason = call('HGET', P .. 'rev:' .. holder, field)
  call('HDEL', P .. 'own:' .. holder, field)
  if reason then
    call('HDEL', P .. 'rev:' .. holder, field)
  end
  S.apply(c, value, holder, call('HGET', P .. 'w:' .. holder, 'host'), blob, reason or nil)
  S.forget_empty_handed(holder)
  return true
end
