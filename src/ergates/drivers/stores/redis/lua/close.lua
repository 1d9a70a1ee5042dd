-- needs:
-- No more tasks will come. The request: the job. The answer: whether there is one.

local job = S.load_job(request)
if job and job.open then
  job.open = false
  S.set_job(job, 'open', '0')
  S.flush_jobs()
end
return S.finish(job and 1 or 0)
