using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Org.BouncyCastle.Crypto.Parameters;
using Org.BouncyCastle.Security;
using Pandora.Agent.Protocol;
using Pandora.Engine.Templates;

namespace Pandora.Engine.Guests;

/// <summary>
/// The identity of one microVM: its SSH host key and its names. The host key is made on the host, so that it can be pinned before the guest
/// runs.
/// </summary>
/// <param name="HostKey">The public host key as SSH sends it (RFC 8709).</param>
/// <param name="HostKeyFile">The private host key in dropbear's format.</param>
/// <param name="Hostname">The guest's hostname.</param>
/// <param name="MachineId">The guest's machine-id: 32 hexadecimal digits (machine-id(5)).</param>
/// <param name="Secret">The secret that only the server and the guest's root know.</param>
internal sealed record GuestIdentity(byte[] HostKey, byte[] HostKeyFile, string Hostname, string MachineId, byte[] Secret)
{
    private const string Algorithm = "ssh-ed25519";

    /// <summary>Makes a new key pair and names.</summary>
    /// <param name="id">The microVM's id.</param>
    public static GuestIdentity Create(string id)
    {
        var privateKey = new Ed25519PrivateKeyParameters(new SecureRandom());
        var publicKey = privateKey.GeneratePublicKey().GetEncoded();
        // Format of dropbear, ed25519.c: the algorithm's name, then seed and public key in one string.
        return new GuestIdentity(
            [.. SshString(Encoding.ASCII.GetBytes(Algorithm)), .. SshString(publicKey)],
            [.. SshString(Encoding.ASCII.GetBytes(Algorithm)), .. SshString([.. privateKey.GetEncoded(), .. publicKey])],
            $"pandora-{id[^8..]}", RandomNumberGenerator.GetHexString(32, lowercase: true),
            RandomNumberGenerator.GetBytes(AgentProtocol.SecretSize));
    }

    /// <summary>
    /// Writes the microVM's initrd: an archive with the files of this microVM, then the template's archive. The template's is compressed
    /// with the old LZ4 format, which has no end mark, so it must be last.
    /// </summary>
    /// <param name="templateInitrd">The template's initrd.</param>
    /// <param name="target">File to write, readable by root only.</param>
    /// <param name="authorizedKey">Line for root's <c>authorized_keys</c>.</param>
    /// <param name="mtu">MTU of the guest's network device.</param>
    /// <param name="useSsh">Whether the guest starts its SSH server at once. Otherwise it does so only if it has no device for the
    /// agent.</param>
    /// <param name="cancellationToken">Cancels the writing.</param>
    public async Task WriteInitrdAsync(
        string templateInitrd, string target, string authorizedKey, int mtu, bool useSsh, CancellationToken cancellationToken)
    {
        await using var output = new FileStream(
            target,
            new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.Write,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            });
        const int Private = 0x1C0; // 0700
        const int RootOnly = 0x180; // 0600
        var cpio = new CpioArchive(output);
        cpio.AddDirectory("machine");
        cpio.AddDirectory("machine/etc");
        cpio.AddDirectory("machine/etc/pandora", Private);
        var machine = $"hostname={Hostname}\nmtu={mtu}\nexec={(useSsh ? "ssh" : "agent")}\n";
        cpio.AddFile("machine/etc/pandora/machine", Encoding.ASCII.GetBytes(machine));
        cpio.AddFile("machine/etc/pandora/host_key", HostKeyFile, RootOnly);
        cpio.AddFile("machine/etc/pandora/secret", Secret, RootOnly);
        cpio.AddFile("machine/etc/hostname", Encoding.ASCII.GetBytes(Hostname + "\n"));
        cpio.AddFile("machine/etc/machine-id", Encoding.ASCII.GetBytes(MachineId + "\n"));
        cpio.AddFile("machine/etc/hosts", Encoding.ASCII.GetBytes($"127.0.0.1 localhost {Hostname}\n::1 localhost\n"));
        cpio.AddFile("machine/etc/resolv.conf", "nameserver 172.16.0.1\n"u8);
        cpio.AddDirectory("machine/root", Private);
        cpio.AddDirectory("machine/root/.ssh", Private);
        cpio.AddFile("machine/root/.ssh/authorized_keys", Encoding.ASCII.GetBytes(authorizedKey + "\n"), RootOnly);
        cpio.Finish();
        await using var input = File.OpenRead(templateInitrd);
        await input.CopyToAsync(output, cancellationToken);
    }

    private static byte[] SshString(byte[] bytes)
    {
        var result = new byte[4 + bytes.Length];
        BinaryPrimitives.WriteInt32BigEndian(result, bytes.Length);
        bytes.CopyTo(result, 4);
        return result;
    }
}
