-- needs:
-- Go on with what follows from tasks that ended. The answer: how many steps are left.

local left = S.follow_up()
S.flush_jobs()
S.ring_for_new_tasks()
return S.finish(pack(left))
