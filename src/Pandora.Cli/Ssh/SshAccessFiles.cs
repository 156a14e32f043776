using System.Text.RegularExpressions;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Ssh;

/// <summary>What <c>ssh-config --json</c> prints.</summary>
/// <param name="Host">Name of the sandbox for ssh.</param>
/// <param name="ConfigFile">File with its block, for <c>ssh -F</c> and <c>Include</c>.</param>
/// <param name="IdentityFile">The private key.</param>
/// <param name="KnownHostsFile">File with its host key.</param>
internal sealed record SshHost(string Host, string ConfigFile, string IdentityFile, string KnownHostsFile);

/// <summary>Prepares a sandbox and this host for SSH between them.</summary>
internal sealed partial class SshAccessFiles(PandoraClient pandora, SshDirectory directory)
{
    /// <summary>Lets the user's key log in to a sandbox, pins the sandbox's host key, and writes its block of ssh_config(5).</summary>
    /// <param name="id">Id of the sandbox.</param>
    /// <param name="user">User to log in as.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <exception cref="UsageException">The id or the user is none.</exception>
    /// <exception cref="PandoraClientException">The server refuses, or the sandbox has ended.</exception>
    /// <exception cref="IOException">The files cannot be written.</exception>
    public async Task<SshHost> PrepareAsync(string id, string user, CancellationToken cancellationToken)
    {
        Check(id, user);
        directory.Create();
        var key = await directory.GetKeyAsync(cancellationToken);
        string hostKey;
        try
        {
            hostKey = await AllowAsync(id, key, cancellationToken);
        }
        catch (Exception e) when (e is SandboxNotFoundException or SandboxGoneException)
        {
            directory.Remove(id);
            throw;
        }

        var host = new SshHost(SshConfig.HostOf(id), directory.ConfigOf(id), directory.KeyFile, directory.HostKeysOf(id));
        SshDirectory.Write(host.KnownHostsFile, $"{host.Host} {hostKey}\n");
        SshDirectory.Write(
            host.ConfigFile,
            SshConfig.Write(id, pandora.Api.Url, user, host.IdentityFile, host.KnownHostsFile, ThisProgram(), Environment()));
        await directory.CleanUpAsync(pandora, id, cancellationToken);
        return host;
    }

    private async Task<string> AllowAsync(string id, string key, CancellationToken cancellationToken)
    {
        var access = await pandora.Api.GetSshAsync(id, cancellationToken);
        if (!access.Keys.Any(k => PublicKeys.AreSame(k, key)))
        {
            access = await pandora.Api.SetSshKeysAsync(id, new SshKeysRequest([.. access.Keys, key]), cancellationToken);
        }

        return HostKey().IsMatch(access.HostKey)
            ? access.HostKey
            : throw PandoraApi.NotUnderstood("the sandbox's host key is no ssh-ed25519 key");
    }

    // Both become parts of file names and of a configuration.
    private static void Check(string id, string user)
    {
        if (!SandboxId().IsMatch(id))
        {
            throw new UsageException($"'{Shared.Clean(id)}' is no id of a sandbox");
        }

        if (!UserName().IsMatch(user))
        {
            throw new UsageException($"--user: '{Shared.Clean(user)}' is no name of a user");
        }
    }

    private static string[] ThisProgram()
    {
        var path = System.Environment.ProcessPath!;
        return Path.GetFileNameWithoutExtension(path) == "dotnet" ? [path, Path.GetFullPath(typeof(SshAccessFiles).Assembly.Location)]
            : [path];
    }

    // An editor starts the program with an environment of its own. The key is none of these: it must not be readable in a file or in a list
    // of processes. ssh kills the program at its end, and with diagnostics on, a killed .NET program leaves sockets in /tmp.
    private IEnumerable<KeyValuePair<string, string>> Environment()
    {
        yield return new("PANDORA_URL", pandora.Api.Url.AbsoluteUri);
        yield return new("DOTNET_EnableDiagnostics", "0");
        foreach (var name in new[] { "DOTNET_ROOT", "PANDORA_DATA_DIR" })
        {
            if (System.Environment.GetEnvironmentVariable(name) is { Length: > 0 } value)
            {
                yield return new(name, value);
            }
        }
    }

    [GeneratedRegex("^[a-z0-9-]{1,64}$")]
    private static partial Regex SandboxId();

    [GeneratedRegex(@"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$")]
    private static partial Regex UserName();

    [GeneratedRegex("^ssh-ed25519 [A-Za-z0-9+/]+=*$")]
    private static partial Regex HostKey();
}
