namespace Pandora.Engine.Networking;

/// <summary>
/// IPv4 forwarding, turned on for single interfaces only. What was off before is noted under the run directory by who turned it on, and the
/// last one to leave turns it off again.
/// </summary>
internal sealed class Forwarding(HostNames names)
{
    private readonly string _notes = names.ForwardingDirectory;

    /// <summary>Turns forwarding off for those that a dead server of this instance needed and this one does not, and finds those that
    /// forward for guests alone.</summary>
    /// <param name="uplinks">Those that guests' packets leave by.</param>
    /// <returns>Those of them that are off, or were before a server of Pandora's turned them on.</returns>
    public IReadOnlyList<string> FindClosed(IReadOnlyList<string> uplinks)
    {
        Restore(except: uplinks);
        return [.. uplinks.Where(u => Directory.Exists(Path.Combine(_notes, u)) || !IsOn(u))];
    }

    /// <summary>Those that do not forward now.</summary>
    public static IReadOnlyList<string> FindOff(IReadOnlyList<string> uplinks) =>
        [.. uplinks.Where(u => File.Exists(PathOf(u, "forwarding")) && !IsOn(u))];

    /// <summary>Turns forwarding on, and notes that this instance needs it.</summary>
    public void Open(IReadOnlyList<string> uplinks)
    {
        foreach (var uplink in uplinks)
        {
            Directory.CreateDirectory(Path.Combine(_notes, uplink));
            File.WriteAllText(Path.Combine(_notes, uplink, names.InstanceId), "");
            Set(uplink, "forwarding", true);
        }
    }

    /// <summary>Prepares an interface of our own again, where it has lost that.</summary>
    /// <returns>Whether it had.</returns>
    public static bool RepairOwn(string name, bool toLoopback)
    {
        try
        {
            if (!File.Exists(PathOf(name, "forwarding"))
                || (IsOn(name) && (!toLoopback || File.ReadAllText(PathOf(name, "route_localnet")).Trim() == "1")))
            {
                return false;
            }

            EnableOwn(name, toLoopback);
            return true;
        }
        catch (IOException)
        {
            // It is being deleted.
            return false;
        }
    }

    /// <summary>Turns off what this instance was the last to need.</summary>
    public void Restore() => Restore(except: []);

    private void Restore(IReadOnlyList<string> except)
    {
        var notes = Directory.Exists(_notes) ? Directory.GetDirectories(_notes) : [];
        foreach (var note in notes.Where(n => !except.Contains(Path.GetFileName(n))))
        {
            File.Delete(Path.Combine(note, names.InstanceId));
            if (!Directory.EnumerateFiles(note).Any())
            {
                // Somebody who has since turned it on for the whole host (Docker does) wants it to stay.
                if (File.ReadAllText("/proc/sys/net/ipv4/ip_forward").Trim() != "1")
                {
                    Set(Path.GetFileName(note), "forwarding", false);
                }

                Directory.Delete(note);
            }
        }

        if (Directory.Exists(_notes) && !Directory.EnumerateFileSystemEntries(_notes).Any())
        {
            Directory.Delete(_notes);
        }
    }

    /// <summary>
    /// Prepares an interface of our own: it forwards, has no IPv6, and reaches a resolver on the host's loopback where that is where DNS
    /// goes.
    /// </summary>
    public static void EnableOwn(string name, bool toLoopback)
    {
        Set(name, "forwarding", true);
        if (toLoopback)
        {
            Set(name, "route_localnet", true);
        }
    }

    private static bool IsOn(string name) => File.ReadAllText(PathOf(name, "forwarding")).Trim() == "1";

    private static void Set(string name, string key, bool isOn)
    {
        var path = PathOf(name, key);
        if (File.Exists(path))
        {
            File.WriteAllText(path, isOn ? "1" : "0");
        }
    }

    private static string PathOf(string name, string key) => $"/proc/sys/net/ipv4/conf/{name}/{key}";
}
