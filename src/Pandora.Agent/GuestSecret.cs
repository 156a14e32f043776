using Pandora.Agent.Protocol;

namespace Pandora.Agent;

/// <summary>
/// The secret of this guest, which only root and the server know. The initrd brings it, or a resume: a guest that was restored has
/// another than the guest of the snapshot.
/// </summary>
internal static class GuestSecret
{
    private const string Path = "/etc/pandora/secret";
    private static volatile byte[] _current = Load();

    /// <summary>The secret: <see cref="AgentProtocol.SecretSize"/> bytes; empty when there is none, so that nothing equals it.</summary>
    public static byte[] Current => _current;

    /// <summary>Replaces the secret. A guest without one has no vsock.</summary>
    public static void Replace(byte[] secret)
    {
        if (secret.Length == AgentProtocol.SecretSize)
        {
            File.WriteAllBytes(Path, secret);
            File.SetUnixFileMode(Path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            _current = secret;
        }
    }

    private static byte[] Load()
    {
        try
        {
            return File.ReadAllBytes(Path) is { Length: AgentProtocol.SecretSize } secret ? secret : [];
        }
        catch (IOException)
        {
            return [];
        }
    }
}
