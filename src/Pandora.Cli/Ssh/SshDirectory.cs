using System.ComponentModel;
using System.Diagnostics;
using Pandora.Client;

namespace Pandora.Cli.Ssh;

/// <summary>
/// The user's files for SSH to sandboxes, in <c>~/.config/pandora/ssh</c>, closed to other users: one key pair for all, and for each
/// sandbox its host key (<c>ID.known_hosts</c>) and its block of ssh_config(5) (<c>ID.config</c>).
/// </summary>
/// <param name="path">The directory.</param>
/// <param name="time">The clock.</param>
internal sealed class SshDirectory(string path, TimeProvider time)
{
    private const string HostKeys = ".known_hosts", Config = ".config";
    private const int MaxAsked = 32, MaxSeen = 4096;
    private static readonly TimeSpan MaxAge = TimeSpan.FromDays(30), CleanUpLimit = TimeSpan.FromSeconds(2);

    /// <summary>Its usual place.</summary>
    public static string UsualPath => Path.Combine(
        Environment.GetEnvironmentVariable("XDG_CONFIG_HOME") is ['/', ..] directory
            ? directory
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".config"),
        "pandora", "ssh");

    /// <summary>The private key.</summary>
    public string KeyFile => Path.Combine(path, "id_ed25519");

    /// <summary>The file with the host key of a sandbox.</summary>
    public string HostKeysOf(string sandboxId) => Path.Combine(path, sandboxId + HostKeys);

    /// <summary>The file with the block of a sandbox.</summary>
    public string ConfigOf(string sandboxId) => Path.Combine(path, sandboxId + Config);

    /// <summary>Makes the directory, closed to other users.</summary>
    /// <exception cref="IOException">It cannot be made.</exception>
    /// <exception cref="UnauthorizedAccessException">It cannot be made, or belongs to another user.</exception>
    public void Create()
    {
        const UnixFileMode Private = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        Directory.CreateDirectory(path, Private);
        if (File.GetUnixFileMode(path) != Private)
        {
            File.SetUnixFileMode(path, Private);
        }
    }

    /// <summary>Returns the public key. The pair is made when there is none.</summary>
    public async Task<string> GetKeyAsync(CancellationToken cancellationToken)
    {
        if (!File.Exists(KeyFile))
        {
            await MakeKeyAsync(cancellationToken);
        }

        // Not from the .pub file, which may be of another pair.
        return (await KeygenAsync(["-y", "-P", "", "-f", KeyFile], cancellationToken)).Trim();
    }

    /// <summary>Replaces a file as a whole.</summary>
    public static void Write(string file, string text)
    {
        var fresh = $"{file}.{Environment.ProcessId}";
        var options = new FileStreamOptions
        {
            Mode = FileMode.Create,
            Access = FileAccess.Write,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        };
        using (var writer = new StreamWriter(fresh, options))
        {
            writer.Write(text);
        }

        File.Move(fresh, file, overwrite: true);
    }

    /// <summary>Removes the files of a sandbox.</summary>
    public void Remove(string sandboxId)
    {
        File.Delete(ConfigOf(sandboxId));
        File.Delete(HostKeysOf(sandboxId));
    }

    /// <summary>
    /// Removes the files of sandboxes that have ended: those older than 30 days, and of the others those of which the server says so, the
    /// oldest first. It asks for a few, for two seconds at most; the next call goes on.
    /// </summary>
    /// <param name="pandora">The server. Files for another one are left.</param>
    /// <param name="current">A sandbox that lives.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public async Task CleanUpAsync(PandoraClient pandora, string current, CancellationToken cancellationToken)
    {
        var files = new DirectoryInfo(path).EnumerateFiles($"*{Config}").Take(MaxSeen)
            .OrderBy(f => f.LastWriteTimeUtc).Select(f => (Id: f.Name[..^Config.Length], f.LastWriteTimeUtc)).ToList();
        var old = time.GetUtcNow().UtcDateTime - MaxAge;
        files.FindAll(f => f.Id != current && f.LastWriteTimeUtc < old).ForEach(f => Remove(f.Id));
        var asked = files.Where(f => f.Id != current && f.LastWriteTimeUtc >= old && IsOf(f.Id, pandora.Api.Url)).Take(MaxAsked);
        using var limit = new CancellationTokenSource(CleanUpLimit, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        await Task.WhenAll(asked.Select(f => CheckAsync(pandora, f.Id, either.Token)));
    }

    private async Task CheckAsync(PandoraClient pandora, string id, CancellationToken cancellationToken)
    {
        try
        {
            await pandora.GetAsync(id, cancellationToken);
        }
        catch (Exception e) when (e is SandboxNotFoundException or SandboxGoneException)
        {
            Remove(id);
        }
        catch (Exception e) when (e is PandoraClientException or OperationCanceledException)
        {
            // What is not known stays.
        }
    }

    private bool IsOf(string id, Uri server)
    {
        try
        {
            return File.ReadLines(ConfigOf(id)).FirstOrDefault() == $"{SshConfig.ServerMark}{server.AbsoluteUri}";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    // Under another name first: of two programs that make a pair at the same time, the first wins.
    private async Task MakeKeyAsync(CancellationToken cancellationToken)
    {
        var fresh = $"{KeyFile}.{Environment.ProcessId}";
        File.Delete(fresh);
        try
        {
            await KeygenAsync(["-q", "-t", "ed25519", "-N", "", "-C", "pandora", "-f", fresh], cancellationToken);
            try
            {
                File.Move(fresh, KeyFile);
            }
            catch (IOException) when (File.Exists(KeyFile))
            {
                return;
            }

            File.Move($"{fresh}.pub", $"{KeyFile}.pub", overwrite: true);
        }
        finally
        {
            File.Delete(fresh);
            File.Delete($"{fresh}.pub");
        }
    }

    private static async Task<string> KeygenAsync(string[] arguments, CancellationToken cancellationToken)
    {
        using var process = OpenSsh.Start(new ProcessStartInfo("ssh-keygen", arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        });
        process.StandardInput.Close();
        var (output, error) = (
            process.StandardOutput.ReadToEndAsync(cancellationToken), process.StandardError.ReadToEndAsync(cancellationToken));
        await process.WaitForExitAsync(cancellationToken);
        return process.ExitCode == 0 ? await output : throw new IOException($"ssh-keygen failed: {(await error).Trim()}");
    }
}

/// <summary>The programs of OpenSSH on this host.</summary>
internal static class OpenSsh
{
    /// <summary>Starts one.</summary>
    /// <exception cref="UsageException">It is not installed.</exception>
    public static Process Start(ProcessStartInfo start)
    {
        try
        {
            return Process.Start(start)!;
        }
        catch (Win32Exception e)
        {
            throw new UsageException(
                $"'{start.FileName}' cannot be run: {e.Message}. OpenSSH's client is needed (package openssh-client)");
        }
    }
}
