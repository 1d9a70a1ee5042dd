-- needs:
-- Pause a job, let it go on, or note that it is cancelled (its tasks are cancelled by ranges afterwards). The request: {job, phase}.
-- Cancelling twice goes on with what a first one, whose caller died, left. The answer: 'unknown', 'nothing', 'cancelled' (it cannot be taken back so) or 'changed'; and its total.

local job = S.load_job(request[1])
local answer = 'changed'
if not job then
  answer = 'unknown'
elseif job.finished or (job.phase == request[2] and request[2] ~= 'cancelled') then
  answer = 'nothing'
elseif job.phase == 'cancelled' and request[2] ~= 'cancelled' then
  answer = 'cancelled'
else
  job.phase = request[2]
  S.set_job(job, 'phase', request[2])
  if request[2] == 'cancelled' and job.open then
    job.open = false
    S.set_job(job, 'open', '0')
  end
  S.flush_jobs()
  S.ring_for_new_tasks()
end
return S.finish(pack({ answer, job and job.total or 0 }))
