namespace Pandora.Bench;

/// <summary>What is measured: the server of this repository on one VMM.</summary>
/// <param name="Repository">The repository's root.</param>
/// <param name="Templates">Directory with the default template.</param>
/// <param name="Firecracker">Path of <c>firecracker</c>; null to run on QEMU.</param>
internal sealed record Target(string Repository, string Templates, string? Firecracker)
{
    /// <summary>The prefix of the names of its figures.</summary>
    public string Label => Firecracker is null ? "" : "Firecracker: ";

    /// <summary>The server's settings for this VMM.</summary>
    public IReadOnlyDictionary<string, string> Settings =>
        Firecracker is null
            ? new Dictionary<string, string> { ["PANDORA_VMM"] = "qemu" }
            : new Dictionary<string, string>
            {
                ["PANDORA_VMM"] = "firecracker",
                ["PANDORA_ACCEL"] = "kvm",
                ["PANDORA_FIRECRACKER"] = Firecracker,
            };
}
