-- needs: find
-- Is there a job with this key already? The request: {key, again, most failed tasks or '', spec}. Who resumes an unfinished job says
-- anew how many failures are too many. The answer: {job or 0, total, resumed, done}, and the spec to change when the limit differs.

local answer, job = S.find_known(request[1], request[2])
if job and answer[3] then
  if request[4] then
    S.take_over_limit(job, request[3], request[4])
    S.flush_jobs()
    S.ring_for_new_tasks()
  end
end
return S.finish(pack(answer), job and call('HGET', job.key, 'spec') or '')
