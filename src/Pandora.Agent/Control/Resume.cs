using Pandora.Agent.Protocol;

namespace Pandora.Agent.Control;

/// <summary>
/// Gives a guest that was restored from a snapshot its identity: clock, random state, names, SSH host key. The programs that read the
/// written files start after this.
/// </summary>
internal static class Resume
{
    public static void Apply(ResumeBody resume)
    {
        Linux.SetClock(resume.UnixNanoseconds);
        Linux.SeedRandom(resume.Seed);
        Linux.SetHostname(resume.Hostname);
        GuestSecret.Replace(resume.Secret);
        RenewPorts();
        File.WriteAllLines(
            "/etc/pandora/machine",
            File.ReadAllLines("/etc/pandora/machine")
                .Select(l => l.StartsWith("hostname=", StringComparison.Ordinal) ? $"hostname={resume.Hostname}" : l)
                .ToList());
        File.WriteAllText("/etc/hostname", $"{resume.Hostname}\n");
        File.WriteAllText("/etc/hosts", $"127.0.0.1 localhost {resume.Hostname}\n::1 localhost\n");
        File.WriteAllText("/etc/machine-id", $"{resume.MachineId}\n");
        // The file exists, only root can read it, and it keeps its mode.
        File.WriteAllBytes("/etc/pandora/host_key", resume.HostKey);
        EndSshServer();
    }

    // The kernel picks source ports by a secret that all guests of a snapshot share, so each guest would begin with the same ports. If an
    // earlier guest in the same slot was killed, the host and the peers may still have connection entries for these ports.
    private static void RenewPorts()
    {
        using var random = File.OpenRead("/dev/urandom");
        var bytes = new byte[4];
        random.ReadExactly(bytes);
        // ip-sysctl, ip_local_port_range: a random part of the default range, which has 28,232 ports.
        File.WriteAllText(
            "/proc/sys/net/ipv4/ip_local_port_range",
            $"{32768 + (BitConverter.ToUInt16(bytes) % 8192)} {60999 - (BitConverter.ToUInt16(bytes, 2) % 8192)}");
    }

    // Kills the SSH server with its sessions, whose keys are also in the template. PID 1 starts it again at once, and it reads the new host
    // key.
    private static void EndSshServer()
    {
        var pids = Directory
            .GetDirectories("/proc")
            .Select(d => int.TryParse(Path.GetFileName(d), out var pid) ? pid : 0)
            .Where(p => p > 1 && NameOf(p) == "dropbear")
            .ToList();
        foreach (var pid in pids)
        {
            Linux.Kill(pid);
            while (Linux.Exists(pid) && NameOf(pid) == "dropbear")
            {
                Linux.Pause(1);
            }
        }
    }

    private static string NameOf(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/comm").Trim();
        }
        catch (IOException)
        {
            return "";
        }
    }
}
