namespace Pandora.Agent.Transport;

/// <summary>The guest's virtio-serial ports.</summary>
internal static class Devices
{
    private const string Ports = "/sys/class/virtio-ports";

    /// <summary>The device of a port; null when the guest does not have it.</summary>
    public static string? FindSerialPort(string name) => !Directory.Exists(Ports)
        ? null
        : Directory.GetDirectories(Ports)
            .Where(d => File.Exists($"{d}/name") && File.ReadAllText($"{d}/name").Trim() == name)
            .Select(d => $"/dev/{Path.GetFileName(d)}")
            .FirstOrDefault();
}
