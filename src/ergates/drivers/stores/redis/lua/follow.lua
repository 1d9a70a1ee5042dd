-- needs:
-- Go on with what follows from tasks that ended. The answer: how many steps are left.

local left = S.follow_up()
flush_jobs()
S.ring_for_new_tasks()
return finish(pack(left))
