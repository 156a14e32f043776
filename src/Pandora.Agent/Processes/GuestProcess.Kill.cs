using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Processes;

/// <content>Kills a process with all that it started, and looks afterwards what is left.</content>
internal sealed partial class GuestProcess
{
    private const int KillTries = 200, StrayTries = 5, KillPause = 15, Kill9 = 9;

    /// <summary>Kills the process and all that it started.</summary>
    /// <param name="report">Receives what is left, when all is gone or after about three seconds.</param>
    public void Kill(Action<KillReport> report)
    {
        KillOnce();
        _loop.After(1, () => CheckKilled(report, KillTries, StrayTries));
    }

    private void KillOnce()
    {
        _cgroup?.Kill();
        if (_status < 0)
        {
            Linux.SignalGroup(Pid, Kill9);
        }
    }

    private void CheckKilled(Action<KillReport> report, int tries, int strayTries)
    {
        var isEmpty = _cgroup is null || !_cgroup.IsPopulated();
        if ((_status < 0 || !isEmpty) && tries > 0)
        {
            // A process may have been on its way into the cgroup.
            KillOnce();
            _loop.After(KillPause, () => CheckKilled(report, tries - 1, strayTries));
            return;
        }

        // Root may have moved a process out of the cgroup; a guest without cgroups has only this.
        var strays = CommandMark.Find(Id);
        if (strays.Count > 0 && strayTries > 0)
        {
            strays.ForEach(Linux.Kill);
            _loop.After(KillPause, () => CheckKilled(report, tries, strayTries - 1));
            return;
        }

        var group = _cgroup is null ? KillReport.HasNoGroup : isEmpty ? KillReport.IsGroupEmpty : KillReport.None;
        report(group | (_status >= 0 ? KillReport.HasEnded : 0) | (strays.Count == 0 ? KillReport.HasNoStrays : 0));
    }
}
