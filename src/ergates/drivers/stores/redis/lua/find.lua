-- Finding a job by its key: the newest unfinished one that was not cancelled, else (unless another shall be added) the newest one.

function S.find_known(key, again)
  local numbers = call('HGET', P .. 'keys', key)
  local newest, unfinished
  for word in string.gmatch(numbers or '', '%d+') do
    local job = S.load_job(tonumber(word))
    if job then
      newest = job
      if not job.finished and job.phase ~= 'cancelled' then
        unfinished = job
      end
    end
  end
  local job = unfinished or (not again and newest) or nil
  if not job then
    return { 0, 0, false, 0 }
  end
  return { job.n, job.total, unfinished ~= nil, job[DONE] }, job
end

function S.take_over_limit(job, most, spec)
  job.max_failed = most ~= '' and most
  S.set_job(job, 'max_failed', most)
  S.set_job(job, 'spec', spec)
end
