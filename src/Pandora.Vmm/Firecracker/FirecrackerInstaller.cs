using System.Formats.Tar;
using System.IO.Compression;
using System.Net;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.RegularExpressions;
using Pandora.Linux;

namespace Pandora.Vmm.Firecracker;

/// <summary>
/// Installs official releases: (1) download the archive, or use a file, (2) verify its SHA-256, (3) unpack the two programs, (4) check the
/// version of both, (5) make them the current release by one rename. If a step fails, the installed release stays as it was.
/// </summary>
/// <param name="directory">Directory of the releases, one subdirectory each; the link <c>current</c> points to the one in use.</param>
/// <param name="report">Called with a message for each step.</param>
public sealed partial class FirecrackerInstaller(string directory, Action<string> report)
{
    /// <summary>Where the project publishes its releases.</summary>
    public const string Releases = "https://github.com/firecracker-microvm/firecracker/releases/download";

    /// <summary>The release that is installed by default, and with which the driver was tested.</summary>
    public static readonly Version Recommended = new(1, 16, 1);

    private const long MaxBytes = 256 * 1024 * 1024;

    /// <summary>Downloads a release and its checksum, and installs it.</summary>
    /// <param name="version">The release.</param>
    /// <param name="source">Base address of the releases, or of a mirror of them.</param>
    /// <param name="sha256">Checksum to verify instead of the published one, as 64 hex digits; or null.</param>
    /// <param name="cancellationToken">Cancels the installation.</param>
    /// <exception cref="VmmException">The release could not be downloaded, has another checksum, or does not run on this host.</exception>
    public async Task<FirecrackerBinaries> DownloadAsync(
        Version version, string source, string? sha256, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(directory);
        var name = $"firecracker-v{version.ToString(3)}-{Architecture()}.tgz";
        var address = $"{source.TrimEnd('/')}/v{version.ToString(3)}/{name}";
        var archive = Path.Combine(directory, $".download-{Path.GetRandomFileName()}");
        using var http = new HttpClient { Timeout = TimeSpan.FromMinutes(10) };
        try
        {
            sha256 ??= ReadChecksum(await http.GetStringAsync(address + ".sha256.txt", cancellationToken), address + ".sha256.txt");
            report($"downloading {address}");
            await using (var file = File.Create(archive))
            {
                using var response = await http.GetAsync(address, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
                response.EnsureSuccessStatusCode();
                await using var body = await response.Content.ReadAsStreamAsync(cancellationToken);
                await CopyAsync(body, file, response.Content.Headers.ContentLength, cancellationToken);
            }

            return await InstallAsync(archive, sha256, version, cancellationToken);
        }
        catch (HttpRequestException e)
        {
            throw new VmmException(e.StatusCode == HttpStatusCode.NotFound
                ? $"there is no {address}: is there a release {version.ToString(3)} for {Architecture()}?"
                : $"{address} could not be downloaded: {e.Message}. Without a network: download it on another machine, use --from FILE", e);
        }
        finally
        {
            File.Delete(archive);
        }
    }

    /// <summary>Installs a release from a file.</summary>
    /// <param name="archive">The release's <c>.tgz</c>.</param>
    /// <param name="sha256">Its checksum; null to read it from the file of the same name with <c>.sha256.txt</c> added.</param>
    /// <param name="expected">The version that the release must have; null for any.</param>
    /// <param name="cancellationToken">Cancels the installation.</param>
    /// <exception cref="VmmException">
    /// There is no checksum, the checksum does not match, or the archive contains no programs that run on this host.
    /// </exception>
    public async Task<FirecrackerBinaries> InstallAsync(
        string archive, string? sha256, Version? expected, CancellationToken cancellationToken)
    {
        if (!File.Exists(archive))
        {
            throw new VmmException($"there is no file '{archive}'");
        }

        var beside = archive + ".sha256.txt";
        sha256 ??= File.Exists(beside)
            ? ReadChecksum(await File.ReadAllTextAsync(beside, cancellationToken), beside)
            : throw new VmmException(
                $"there is no checksum for {archive}: put the release's {Path.GetFileName(beside)} next to it, or pass --sha256");
        await using (var file = File.OpenRead(archive))
        {
            var actual = Convert.ToHexStringLower(await SHA256.HashDataAsync(file, cancellationToken));
            if (!actual.Equals(sha256, StringComparison.OrdinalIgnoreCase))
            {
                throw new VmmException(
                    $"{archive} has the wrong checksum, and nothing was installed: its SHA-256 is {actual}, and "
                        + $"{sha256.ToLowerInvariant()} was expected");
            }
        }

        report("the SHA-256 is correct");
        Directory.CreateDirectory(directory);
        var work = Path.Combine(directory, $".unpack-{Path.GetRandomFileName()}");
        try
        {
            await UnpackAsync(archive, Directory.CreateDirectory(work).FullName, cancellationToken);
            var found = await FirecrackerBinaries.FindAsync(
                Path.Combine(work, "firecracker"), Path.Combine(work, "jailer"), cancellationToken);
            if (expected is not null && found.Version != expected)
            {
                throw new VmmException(
                    $"{archive} contains Firecracker {found.Version}, and {expected.ToString(3)} was expected; nothing was installed");
            }

            return Install(work, found.Version);
        }
        finally
        {
            if (Directory.Exists(work))
            {
                Directory.Delete(work, recursive: true);
            }
        }
    }

    // Running microVMs keep the program with which they were started.
    private FirecrackerBinaries Install(string work, Version version)
    {
        var name = $"v{version.ToString(3)}";
        var target = Path.Combine(directory, name);
        if (Directory.Exists(target))
        {
            Directory.Delete(target, recursive: true);
        }

        Directory.Move(work, target);
        var link = Path.Combine(directory, $".current-{Path.GetRandomFileName()}");
        File.CreateSymbolicLink(link, name);
        Libc.Rename(link, Path.Combine(directory, "current"));
        report($"Firecracker {version.ToString(3)} is in {target}; the server uses it from its next start on");
        return new FirecrackerBinaries(Path.Combine(target, "firecracker"), Path.Combine(target, "jailer"), version);
    }

    private static async Task UnpackAsync(string archive, string target, CancellationToken cancellationToken)
    {
        var found = new HashSet<string>();
        try
        {
            await using var file = File.OpenRead(archive);
            await using var gzip = new GZipStream(file, CompressionMode.Decompress);
            await using var tar = new TarReader(gzip);
            while (await tar.GetNextEntryAsync(cancellationToken: cancellationToken) is { } entry)
            {
                // All other entries are ignored, whatever path their name contains.
                var match = ProgramPattern().Match(entry.Name);
                if (
                    match.Success
                    && entry.EntryType is TarEntryType.RegularFile or TarEntryType.V7RegularFile
                    && entry.DataStream is not null
                    && match.Groups["arch"].Value == Architecture()
                    && found.Add(match.Groups["program"].Value))
                {
                    var path = Path.Combine(target, match.Groups["program"].Value);
                    await using (var program = File.Create(path))
                    {
                        await CopyAsync(entry.DataStream, program, null, cancellationToken);
                    }

                    File.SetUnixFileMode(path, (UnixFileMode)0b111_101_101);
                }
            }
        }
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException or FormatException)
        {
            throw new VmmException($"{archive} is not a .tgz: {e.Message}", e);
        }

        if (found.Count < 2)
        {
            throw new VmmException(
                $"{archive} does not contain firecracker and jailer for {Architecture()}: is it an official release for this machine?");
        }
    }

    private static async Task CopyAsync(Stream from, Stream to, long? length, CancellationToken cancellationToken)
    {
        if (length > MaxBytes)
        {
            throw new VmmException($"a file of {length} bytes is too large for a release of Firecracker");
        }

        var buffer = new byte[128 * 1024];
        for (long total = 0; await from.ReadAsync(buffer, cancellationToken) is > 0 and var count;)
        {
            total += count;
            if (total > MaxBytes)
            {
                throw new VmmException($"a file of more than {MaxBytes} bytes is too large for a release of Firecracker");
            }

            await to.WriteAsync(buffer.AsMemory(0, count), cancellationToken);
        }
    }

    private static string ReadChecksum(string text, string origin) => ChecksumPattern().Match(text) is { Success: true } match
        ? match.Value
        : throw new VmmException($"{origin} contains no SHA-256");

    private static string Architecture() =>
        RuntimeInformation.ProcessArchitecture == System.Runtime.InteropServices.Architecture.Arm64 ? "aarch64" : "x86_64";

    [GeneratedRegex(@"^(\./)?release-v[0-9.]+-(x86_64|aarch64)/(?<program>firecracker|jailer)-v[0-9.]+-(?<arch>x86_64|aarch64)$")]
    private static partial Regex ProgramPattern();

    [GeneratedRegex(@"\b[0-9a-fA-F]{64}\b")]
    private static partial Regex ChecksumPattern();
}
