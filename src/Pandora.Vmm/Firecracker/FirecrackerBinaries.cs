using System.Text.RegularExpressions;
using Pandora.Linux;

namespace Pandora.Vmm.Firecracker;

/// <summary>The installed programs of Firecracker.</summary>
/// <param name="Firecracker">Path of <c>firecracker</c>.</param>
/// <param name="Jailer">Path of <c>jailer</c>; null for the development mode without it.</param>
/// <param name="Version">Version of both.</param>
public sealed partial record FirecrackerBinaries(string Firecracker, string? Jailer, Version Version)
{
    /// <summary>
    /// The oldest supported version: since 1.12.0 a snapshot can be restored with another tap (Firecracker's changelog).
    /// </summary>
    public static readonly Version Oldest = new(1, 12, 0);

    // After a restore, guest sockets do not work: firecracker#5969.
    private static readonly Version Broken = new(1, 16, 0);

    /// <summary>Whether the agent in a restored guest can be reached.</summary>
    public bool CanRestore => Version != Broken;

    /// <summary>What an operator should know about this version, or null.</summary>
    public string? Warning =>
        Version == Broken ? "Firecracker 1.16.0 loses its guests' vsock when a snapshot is restored: use 1.16.1 or later" : null;

    /// <summary>Finds the programs and reads their version.</summary>
    /// <param name="firecracker">Path or name of <c>firecracker</c>.</param>
    /// <param name="jailer">Path or name of <c>jailer</c>; null to run without it.</param>
    /// <param name="cancellationToken">Cancels the search.</param>
    /// <exception cref="VmmException">A program is missing, cannot be run, or is too old; the message says what to do.</exception>
    public static async Task<FirecrackerBinaries> FindAsync(string firecracker, string? jailer, CancellationToken cancellationToken)
    {
        var version = await VersionOfAsync(firecracker, "Firecracker", cancellationToken);
        if (version < Oldest)
        {
            throw new VmmException(
                $"{firecracker} is Firecracker {version}, and {Oldest} or later is needed: './pandora firecracker install' installs it");
        }

        if (jailer is not null && await VersionOfAsync(jailer, "Jailer", cancellationToken) is var other && other != version)
        {
            throw new VmmException(
                $"{jailer} has version {other}, but {firecracker} has version {version}: install both from the same release");
        }

        return new FirecrackerBinaries(Resolve(firecracker), jailer is null ? null : Resolve(jailer), version);
    }

    /// <summary>The path of a program, by name or path; null when there is none.</summary>
    public static string? TryResolve(string program)
    {
        if (program.Contains('/', StringComparison.Ordinal))
        {
            return File.Exists(program) ? Path.GetFullPath(program) : null;
        }

        return (Environment.GetEnvironmentVariable("PATH") ?? "")
            .Split(':')
            .Where(d => d.Length > 0)
            .Select(d => Path.Combine(d, program))
            .FirstOrDefault(File.Exists);
    }

    private static string Resolve(string program)
    {
        var path = TryResolve(program)!;
        // The jailer names its directories after the file, and copies the file without following a link.
        return File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path;
    }

    private static async Task<Version> VersionOfAsync(string program, string name, CancellationToken cancellationToken)
    {
        var path = TryResolve(program) ?? throw new VmmException($"there is no '{program}': './pandora firecracker install' installs it");
        string output;
        try
        {
            output = await Command.RunAsync(path, ["--version"], cancellationToken: cancellationToken);
        }
        catch (CommandException e)
        {
            throw new VmmException($"{path} cannot be run: {e.Message}", e);
        }

        var match = VersionPattern().Match(output);
        return match.Success && match.Groups["name"].Value == name
            ? new Version(
                int.Parse(match.Groups["major"].Value), int.Parse(match.Groups["minor"].Value), int.Parse(match.Groups["patch"].Value))
            : throw new VmmException($"{path} does not say that it is {name}: {output.Split('\n')[0]}");
    }

    [GeneratedRegex(@"^(?<name>Firecracker|Jailer) v(?<major>\d{1,4})\.(?<minor>\d{1,4})\.(?<patch>\d{1,4})", RegexOptions.Multiline)]
    private static partial Regex VersionPattern();
}
