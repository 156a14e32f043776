namespace Pandora.Engine.Networking;

/// <summary>
/// Turns on IPv4 forwarding, for single interfaces only. If an interface did not forward before, each instance that needs it writes a note
/// under the run directory; the last of these instances turns forwarding off again.
/// </summary>
internal sealed class Forwarding(HostNames names)
{
    private readonly string _notes = names.ForwardingDirectory;

    /// <summary>Turns forwarding off for interfaces that an earlier server of this instance needed and this server does not. Then finds the
    /// uplinks that forward for guests only.</summary>
    /// <param name="uplinks">Interfaces that guests' packets leave through.</param>
    /// <returns>The uplinks that do not forward, or did not before a Pandora server turned forwarding on.</returns>
    public IReadOnlyList<string> FindClosed(IReadOnlyList<string> uplinks)
    {
        Restore(except: uplinks);
        return [.. uplinks.Where(u => Directory.Exists(Path.Combine(_notes, u)) || !IsOn(u))];
    }

    /// <summary>Returns the uplinks that do not forward now.</summary>
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

    /// <summary>Repairs the settings of a slot's interface, if another program changed them.</summary>
    /// <returns>Whether a setting was repaired.</returns>
    public static bool RepairInterface(string name, bool toLoopback)
    {
        try
        {
            if (!File.Exists(PathOf(name, "forwarding"))
                || (IsOn(name) && (!toLoopback || File.ReadAllText(PathOf(name, "route_localnet")).Trim() == "1")))
            {
                return false;
            }

            PrepareInterface(name, toLoopback);
            return true;
        }
        catch (IOException)
        {
            // The interface is being deleted.
            return false;
        }
    }

    /// <summary>Turns forwarding off on the interfaces that no other instance needs.</summary>
    public void Restore() => Restore(except: []);

    private void Restore(IReadOnlyList<string> except)
    {
        var notes = Directory.Exists(_notes) ? Directory.GetDirectories(_notes) : [];
        foreach (var note in notes.Where(n => !except.Contains(Path.GetFileName(n))))
        {
            File.Delete(Path.Combine(note, names.InstanceId));
            if (!Directory.EnumerateFiles(note).Any())
            {
                // If another program has turned forwarding on for the whole host since, as Docker does, it stays on.
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

    /// <summary>Prepares a slot's interface: it forwards, and may reach the host's loopback if the host's resolver listens there.</summary>
    public static void PrepareInterface(string name, bool toLoopback)
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
